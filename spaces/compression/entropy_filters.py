"""Entropy-based filter pruning (Luo and Wu, 2017 [25], section 3.2): filters whose feature maps are much the same for all images go.

Each map is averaged over its positions, which gives one number an image; a filter's numbers are counted in `bins` of equal width between
its own least and largest (a range for all filters would call small maps constant), and with p_i the share in bin i

    H = -sum_i p_i log p_i

A filter that gives the same of all images has one bin, and an entropy of 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, POINTWISE
from spaces.gene import check_range
from spaces.method import STRUCTURE, Compression

SAME = 1e-5  # a range that is such a share of its largest number comes from rounding


@dataclass(frozen=True)
class EntropyFilters(Compression):
    """Removes the output channels of lowest entropy; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "Luo and Wu, 2017 [25]"
    PHASE: ClassVar[int] = STRUCTURE
    APPLIES: ClassVar[tuple[str, ...]] = (CONV, POINTWISE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense layer, and smaller neighbours"
    keep: float = 0.5
    bins: int = 10

    def __post_init__(self):
        check_range("entropy_filters keep", self.keep, 0.01, 1)
        check_range("entropy_filters bins", self.bins, 2, 1000)

    def removed(self, site) -> list[int]:
        from spaces.channels import lowest

        return lowest(entropies(site.maps.mean((2, 3)), self.bins), self.keep)


def entropies(values, bins: int):
    """H in nats of each column of values [N, channels]: [channels]. What is not finite stays so."""
    import torch
    from torch.nn import functional

    low, high = values.amin(0), values.amax(0)
    width = torch.where(high - low > SAME * values.abs().amax(0), high - low, torch.inf)
    numbers = ((values - low) / width * bins).nan_to_num().long().clamp(max=bins - 1)
    shares = functional.one_hot(numbers, bins).double().mean(0)
    return torch.where(torch.isfinite(low + high), -torch.xlogy(shares, shares).sum(1), torch.nan)
