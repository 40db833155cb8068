"""A convolution as a vertical one to K maps and a horizontal one behind it (Jaderberg et al., 2014 [57], scheme 2).

W[n, c, y, x] ~ sum_k V[k, c, y] H[n, k, x], which are d K (C + N) weights in place of d^2 C N. As a matrix of rows (c, y) and columns
(n, x) that is a product of rank K, so the nearest is its truncated singular value decomposition (Tai et al., 2016 [64]): V_k = U_k
sqrt(S_k), H_k = sqrt(S_k) V_k^T, at an error of the singular values left out.
"""

import torch
from torch import nn

from spaces.factors import HEIGHT, WIDTH, Factor, in_a_row
from spaces.truncated_svd import truncated_svd


def maps_for(weight: torch.Tensor, keep: float) -> int:
    """K, the number of maps between the two, at which they have at most the share `keep` of the weights; at least 1, at most as many as
    change nothing."""
    n, c, height, width = weight.shape
    return max(1, min(c * height, n * width, int(keep * weight.numel() / (c * height + n * width))))


def nearest(weight: torch.Tensor, maps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """V [K, C, height] and H [N, K, width], as large as each other, whose composed weights are nearest to these [N, C, height, width]."""
    n, c, height, width = weight.shape
    left, sigma, right = truncated_svd(weight.permute(1, 2, 0, 3).reshape(c * height, n * width), maps)
    half = sigma.sqrt()[:, None]
    return (half * left.T).reshape(-1, c, height), (half * right).reshape(-1, n, width).transpose(0, 1)


def composed(vertical: torch.Tensor, horizontal: torch.Tensor) -> torch.Tensor:
    """The weights [N, C, height, width] of the one convolution that does what the two do."""
    return torch.einsum("kcy,nkx->ncyx", vertical, horizontal)


def as_pair(layer: nn.Conv2d, vertical: torch.Tensor, horizontal: torch.Tensor) -> nn.Module:
    """The layer as the two; as it was where they would not be smaller."""
    return in_a_row(layer, Factor(vertical[..., None], (HEIGHT,)), Factor(horizontal[:, :, None], (WIDTH,)))
