"""Low-rank restructuring by the singular value decomposition (Xue et al., 2013 [62]).

A trained weight matrix W (outputs x inputs) becomes U_k (S_k V_k^T): two smaller layers in a row with
no activation between, the best rank-k approximation (Eckart and Young, 1936). A k x k convolution is
unfolded to outputs x (inputs k^2): a k x k convolution to `rank` maps, then a 1x1. The layer stays
dense where two would not be smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, POINTWISE
from spaces.gene import SpaceError, check_choice, check_range
from spaces.method import FACTORISE, Compression
from spaces.truncated_svd import truncated_svd


@dataclass(frozen=True)
class SVD(Compression):
    """Two layers of lower rank in place of one: `rank` fixed, or the least rank that holds `energy`."""

    SOURCE: ClassVar[str] = "Xue et al., 2013 [62]"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DENSE)
    GAIN: ClassVar[str] = "bytes and time: a chain of two smaller dense layers"
    SETTINGS: ClassVar[tuple[str, ...]] = ("svd-rank1024", "svd-rank64", "svd-rank16")
    rank: int = 0
    energy: float = 0.0
    split: str = "sigma_right"

    def __post_init__(self):
        if (self.rank > 0) == (self.energy > 0):
            raise SpaceError(f"{self}: give either a rank (svd-rank8) or an energy (svd-energy0.9)")
        check_range("svd rank", self.rank, 0, 1 << 20)
        check_range("svd energy", self.energy, 0, 1)
        check_choice("svd split", self.split, ("sigma_right", "sqrt"))

    @property
    def shapes_fixed(self) -> bool:
        return self.rank > 0

    def prepare(self, layer):
        weight = layer.weight.detach()
        left, sigma, right = truncated_svd(weight.flatten(1), self.rank or min(weight.flatten(1).shape))
        rank = self._rank(sigma)
        if rank * sum(weight.flatten(1).shape) >= weight.numel():
            return layer
        share = sigma[:rank].sqrt() if self.split == "sqrt" else sigma[:rank]
        return _pair(layer, left[:, :rank] * (sigma[:rank] / share), share[:, None] * right[:rank])

    def _rank(self, sigma) -> int:
        if self.rank:
            return min(self.rank, len(sigma))
        held = (sigma**2).cumsum(0) / (sigma**2).sum()
        return min(int((held < self.energy).sum()) + 1, len(sigma))


def _pair(layer, left, right):
    """The layer as `right` (rank x inputs, all of the geometry) followed by `left` (outputs x rank)."""
    import torch
    from torch import nn

    rank, biased = len(right), layer.bias is not None
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False)
        second = nn.Linear(rank, layer.out_features, bias=biased)
    else:
        first = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding,
                          layer.dilation, bias=False)
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=biased)
    with torch.no_grad():
        first.weight.copy_(right.reshape(first.weight.shape))
        second.weight.copy_(left.reshape(second.weight.shape))
        if biased:
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
