"""How many bits each layer gets of a network's budget (Lin et al., 2016 [27], section 4).

Of tensor i with b_i bits the signal-to-quantisation-noise ratio is, in dB, 10 log10 g_i = k_i b_i + d_i, and the noise that all bring to
the network's outputs adds up:

    1 / g = sum_i l_i,    l_i = 1 / g_i

With r_i numbers in a tensor, or products, sum_i r_i b_i is what the bits cost. Of all bits of the same cost those have the greatest g
for which r_i / (k_i l_i) is the same for all i: where bits are worth the same everywhere, r_i / l_i is, and

    b_i - b_j = 10 log10(r_j / r_i) / k

so that large layers get few bits.
"""

import math

import numpy as np
import torch

from spaces.gene import SpaceError

FEWEST, MOST = 2, 7  # bits that `intn` has


def network_ratio(bits, slopes, offsets=0.0) -> float:
    """10 log10 g, in dB, of so many bits a tensor; `slopes` k in dB a bit and `offsets` d in dB, one each or one for all."""
    return -10 * float(np.log10(np.sum(10 ** (-(np.asarray(slopes) * bits + offsets) / 10))))


def best_bits(costs, mean: float, slopes, offsets=0.0) -> np.ndarray:
    """The bits b of greatest g, real numbers, of which sum r b = mean sum r. costs: r of each tensor; others as above."""
    costs = np.asarray(costs, dtype=float)
    shares = costs / slopes
    log_noise = np.log10(shares)  # of l, but for a number that is the same for all and meets the cost
    common = -np.sum(shares * (10 * log_noise + offsets) + costs * mean) / (10 * np.sum(shares))
    return -(10 * (log_noise + common) + offsets) / slopes


def whole_bits(costs, mean: float, slopes, offsets=0.0, fewest: int = FEWEST, most: int = MOST) -> list[int]:
    """The bits of greatest g among whole numbers from fewest to most of which sum r b <= mean sum r; costs: whole numbers. SpaceError if
    the fewest bits cost more than that."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    if mean < fewest:
        raise SpaceError(f"a mean of {mean:g} bits; the fewest are {fewest}")
    costs, bits = np.asarray(costs), np.arange(fewest, most + 1)
    slopes, offsets = (np.broadcast_to(numbers, len(costs))[:, None] for numbers in (slopes, offsets))
    noise = 10 ** (-(slopes * bits + offsets) / 10)
    # One variable of 0 or 1 for each tensor and number of bits.
    each = LinearConstraint(np.kron(np.eye(len(costs)), np.ones(len(bits))), 1, 1)
    budget = LinearConstraint(np.outer(costs, bits).reshape(1, -1), ub=np.floor(mean * costs.sum()))
    found = milp(noise.flatten() / noise.min(1).sum(), constraints=[each, budget], integrality=np.ones(noise.size), bounds=Bounds(0, 1))
    return bits[found.x.reshape(noise.shape).argmax(1)].tolist()


def measured_line(weight: torch.Tensor) -> tuple[float, float]:
    """k and d of weights [outputs, ...]: the line nearest to their ratio with the steps of least error of 2 to 7 bits."""
    bits = np.arange(FEWEST, MOST + 1)
    return tuple(map(float, np.polyfit(bits, [weight_ratio(weight, int(count)) for count in bits], 1)))


def weight_ratio(weight: torch.Tensor, bits: int) -> float:
    """The ratio of signal and noise of weights [outputs, ...] in dB, quantised to so many bits in steps of least error a channel.
    SpaceError if they have none."""
    from spaces.integer import by_channel, unless_zero
    from spaces.uniform_steps import least_steps

    most = 2 ** (bits - 1) - 1
    step = by_channel(unless_zero(least_steps(weight, most)), weight)
    noise = weight - step * torch.round(weight / step).clamp(-most, most)
    ratio = 10 * float(torch.log10(weight.square().sum() / noise.square().sum()))
    if not math.isfinite(ratio):
        raise SpaceError("weights that are all zero, not finite or whole steps already have no ratio of signal to noise")
    return ratio
