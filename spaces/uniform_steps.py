"""The step at which a symmetric uniform quantiser has the least squared error (Max, 1960; Lin et al., 2016 [27], section 3).

Its levels are `step` apart and symmetric about zero: an even number of them has none at zero, an odd number has one. A number becomes the
nearest level, so that the error is E (x - q(x))^2, of rounding inside the levels' range and of what lies beyond it.
"""

from functools import cache

import numpy as np
import torch

DENSITIES = {"gaussian": lambda x: np.exp(-x**2 / 2) / np.sqrt(2 * np.pi),
             "laplace": lambda x: np.exp(-np.sqrt(2) * np.abs(x)) / np.sqrt(2)}
FAR, POINTS = 30.0, 1 << 15  # the half line as far as it counts, and where the error is looked at
APART = 0.886  # steps that are tried, each beside the one before; then, about the best of them, some between
TRIED = [APART**power for power in range(1, 20)], [APART ** (part / 5) for part in range(-4, 5) if part]


def nearest(x: np.ndarray, levels: int, step: float) -> np.ndarray:
    """The level nearest to each x >= 0."""
    first = 0.5 if levels % 2 == 0 else 0.0
    return step * (np.clip(np.rint(x / step - first), 0, (levels - 1) // 2) + first)


def error(density: str, levels: int, step: float) -> float:
    """E (x - q(x))^2 of a density of unit variance, "gaussian" or "laplace"."""
    x = (np.arange(POINTS) + 0.5) * FAR / POINTS
    return float(2 * FAR / POINTS * np.sum((x - nearest(x, levels, step)) ** 2 * DENSITIES[density](x)))


@cache
def best_step(density: str, levels: int) -> float:
    """The step of least error, in standard deviations."""
    from scipy.optimize import minimize_scalar

    return float(minimize_scalar(lambda step: error(density, levels, step), bounds=(1e-3, 3), method="bounded", options={"xatol": 1e-6}).x)


def fitted_steps(weight: torch.Tensor, most: int, density: str) -> torch.Tensor:
    """One step of each channel of weights [outputs, ...], float32 [outputs], for whole numbers of steps -most to most: the best one of
    the density with the mean square of those of the channel's weights that are not zero."""
    flat = weight.flatten(1)
    largest = flat.abs().amax(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    squares = (flat / largest).square().sum(1) / flat.count_nonzero(1).clamp(min=1)
    return largest.flatten() * squares.sqrt() * best_step(density, 2 * most + 1)


def least_steps(weight: torch.Tensor, most: int) -> torch.Tensor:
    """The same with the least error of the channel's own weights, as near as some thirty steps come: the largest weight becomes `most`
    steps. Weights that are whole steps already, one of them `most`, keep theirs."""
    flat = weight.flatten(1)
    largest = flat.abs().amax(1, keepdim=True) / most
    units, best = flat / torch.where(largest == 0, 1, largest), torch.ones_like(largest)
    least = _squares(units, best, most)
    for shares in TRIED:
        middle = best
        for share in shares:
            step = (middle * share).clamp(max=1)
            found = _squares(units, step, most)
            best, least = torch.where(found < least, step, best), torch.minimum(found, least)
    return (largest * best).flatten()


def _squares(units: torch.Tensor, step: torch.Tensor, most: int) -> torch.Tensor:
    """By row, the sum of the squared differences between numbers and the nearest of -most to most steps."""
    return (units - step * torch.round(units / step).clamp(-most, most)).square().sum(1, keepdim=True)
