"""Masks that change while a network trains: of pruning in rounds, of dynamic surgery, of a memory bound.

In eval mode, and so when it is frozen, a layer has the weights that it would be deployed with if training ended there. Where training
gives the running mean of what it went through, of a mask too, a weight counts as kept that was kept in most of the steps that count.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from spaces.integer import StraightThrough
from spaces.prepared import Mask
from spaces.recipe import Hooks, Run

BAND = 0.9, 1.1  # of the threshold: below a weight goes, above it comes back
SETTLING = 0.9  # the share of a run after which a memory bound holds in every step


def largest(weight: torch.Tensor, count: int) -> torch.Tensor:
    """A mask of the weights' shape, float32: ones at the `count` largest magnitudes, of equal ones the first."""
    size = weight.detach().abs().flatten()
    least = size.kthvalue(len(size) - count + 1).values if count else math.inf
    mask = (size > least).float()
    mask[(size == least).nonzero().flatten()[:count - int(mask.count_nonzero())]] = 1
    return mask.reshape(weight.shape)


def under(mask: Mask, network: nn.Module) -> torch.Tensor:
    """The trained weights of the network that a mask lies on, without their gradients."""
    return next(module.parametrizations.weight.original.detach() for module in network.modules()
                if parametrize.is_parametrized(module, "weight") and mask in module.parametrizations.weight)


class RoundsMask(Mask):
    """Keeps the largest weights, fewer of them in each of `rounds` of equal length. `count(r)`: how many weights of a round r, which is
    0 to rounds - 1; what is once removed does not come back."""

    def __init__(self, weight: torch.Tensor, rounds: int, count: Callable[[int], int]):
        super().__init__(largest(weight, count(0)))
        self.rounds, self.count = rounds, count

    def forward(self, weight):
        kept = weight * (self.mask > 0.5)
        return kept if self.training else kept * largest(kept, self.count(self.rounds - 1))

    def hooks(self, run: Run) -> Hooks:
        """Its part in the training."""
        return _Rounds(self, run)


class _Rounds(Hooks):
    def __init__(self, mask: RoundsMask, run: Run):
        self.mask, self.weight, self.steps = mask, under(mask, run.network), run.steps

    def on_step(self, step: int) -> None:
        before, now = (min(done * self.mask.rounds // self.steps, self.mask.rounds - 1) for done in (step, step + 1))
        if now > before:
            self.mask.mask.copy_(largest(self.weight * self.mask.mask, self.mask.count(now)))


class SplicedMask(Mask):
    """The mask T of dynamic network surgery: the network computes with W T, and the gradient with respect to W T is handed to all of W.

    `chance(i)`: the probability with which T is brought up to date before iteration i; `stop`: the share of the run after which it
    stays. The largest weight of a layer is always kept.
    """

    def __init__(self, weight: torch.Tensor, threshold: float, chance: Callable[[int], float], stop: float):
        super().__init__(torch.ones_like(weight))
        self.low, self.high = (share * threshold for share in BAND)
        self.chance, self.stop = chance, stop
        self.update(weight)

    def forward(self, weight):
        return StraightThrough.apply(weight, weight.detach() * (self.mask > 0.5))

    def scale(self, factor: float) -> None:
        """The thresholds go with the weights."""
        self.low, self.high = self.low * factor, self.high * factor

    def update(self, weight: torch.Tensor) -> None:
        """0 up to the lower threshold, 1 past the upper one, as it was in between."""
        size = weight.abs()
        self.mask.masked_fill_((size <= self.low) & (size < size.max()), 0).masked_fill_(size > self.high, 1)

    def hooks(self, run: Run) -> Hooks:
        """Its part in the training."""
        return _Spliced(self, run)


class _Spliced(Hooks):
    def __init__(self, mask: SplicedMask, run: Run):
        self.mask, self.weight, self.end = mask, under(mask, run.network), mask.stop * run.steps

    def on_step(self, step: int) -> None:
        if step + 1 < self.end and float(torch.rand(())) < self.mask.chance(step + 1):
            self.mask.update(self.weight)


class BoundedMask(Mask):
    """Projects weights to the `count` largest every so many steps of training, between which all of them learn; in eval mode always."""

    def __init__(self, weight: torch.Tensor, count: int, every: int):
        super().__init__(largest(weight, count))
        self.count, self.every = count, every

    def forward(self, weight):
        return weight if self.training else weight * largest(weight, self.count)

    def hooks(self, run: Run) -> Hooks:
        """Its part in the training."""
        return _Bounded(self, run)


class _Bounded(Hooks):
    def __init__(self, mask: BoundedMask, run: Run):
        self.mask, self.weight, self.settling = mask, under(mask, run.network), SETTLING * run.steps

    def on_step(self, step: int) -> None:
        # At last in every step, so that batch norms see what is deployed.
        if (step + 1) % self.mask.every == 0 or step + 1 >= self.settling:
            self.mask.mask.copy_(largest(self.weight, self.mask.count))
            self.weight.mul_(self.mask.mask)
