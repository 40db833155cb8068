"""Two convolutions in place of one, fitted to what it gives of real images (Jaderberg et al., 2014 [57], data reconstruction).

With p the patch of the input that an output is computed from, W the layer's weights and W~ those of the pair, as matrices of a row for
each output, the mean square error of the outputs is

    E |(W - W~) p|^2 = tr (W - W~) S (W - W~)^T,    S = E p p^T

Given V, this is a linear least squares problem in H, solved exactly, and given H one in V, on which conjugate gradients go some steps
from the V there is. So the error never rises (alternating least squares). A small part of the mean of S's diagonal is added to it, so that
what few images do not show stays as it was: the pair is weighed by the error of its weights there.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from spaces.gene import SpaceError
from spaces.vertical_horizontal import composed, nearest

PATCHES, BATCH = 1 << 16, 32  # patches that are looked at, about; images unfolded at a time
RIDGE = 1e-3  # the part of the mean square of an input
ROUNDS, STEPS = 5, 5


def second_moments(layer: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """S above, float64 [D, D] of D = C * height * width, from inputs [images, C, H, W]; of many patches, of a random part. SpaceError if
    the inputs are all zero, or not finite."""
    generator, total, count = torch.Generator().manual_seed(0), 0, 0
    for images in inputs.split(BATCH):
        patches = functional.unfold(images, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        places = patches.shape[2]
        some = torch.randperm(places, generator=generator)[: -(-PATCHES // len(inputs))]
        flat = patches[:, :, some].transpose(0, 1).flatten(1)
        total, count = total + (flat @ flat.T).double(), count + flat.shape[1]
    if not torch.isfinite(total).all() or not total.any():
        raise SpaceError("what the images give the layer is not finite, or nothing but zeros: its outputs cannot be fitted")
    return total / count


def fitted(weight: torch.Tensor, moments: torch.Tensor, maps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """V [K, C, height] and H [N, K, width] of K = `maps`, from those nearest to the weights [N, C, height, width] on; all float64."""
    vertical, horizontal = nearest(weight, maps)
    whole = moments + RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    for _ in range(ROUNDS):
        horizontal = _horizontal(weight, whole, vertical)
        vertical, horizontal = _orthonormal(vertical, horizontal)
        vertical = _vertical(weight, whole, vertical, horizontal)
    return nearest(composed(vertical, horizontal), maps)


def _horizontal(weight, moments, vertical):
    """The best H for a V: W~ = H T, where T gives a patch's maps."""
    maps, (n, _, height, width) = len(vertical), weight.shape
    of_patch = torch.einsum("kcy,xz->kxcyz", vertical, torch.eye(width, dtype=weight.dtype)).reshape(maps * width, -1)
    seen = of_patch @ moments
    solution = torch.linalg.lstsq(seen @ of_patch.T, seen @ weight.flatten(1).T, driver="gelsd").solution
    return solution.T.reshape(n, maps, width)


def _orthonormal(vertical, horizontal):
    """The same product, in which H has orthonormal columns [N width, K]."""
    n, maps, width = horizontal.shape
    basis, triangle = torch.linalg.qr(horizontal.transpose(1, 2).reshape(n * width, maps))
    return (triangle @ vertical.flatten(1)).reshape(-1, *vertical.shape[1:]), basis.reshape(n, width, -1).transpose(1, 2)


def _vertical(weight, moments, vertical, horizontal):
    """A better V for an H of orthonormal columns. Were S the same for every column x of a patch, its mean over these would solve it."""
    from scipy.sparse.linalg import LinearOperator, cg

    shape, (_, c, height, width) = vertical.shape, weight.shape
    blocks = moments.reshape(c * height, width, c * height, width).diagonal(dim1=1, dim2=3).mean(-1)
    inverse = torch.linalg.inv(blocks)

    def back(weights):
        seen = (weights.flatten(1) @ moments).reshape(weight.shape)
        return torch.einsum("ncyx,nkx->kcy", seen, horizontal).flatten().numpy()

    def operator(of):
        size = vertical.numel()
        return LinearOperator((size, size), matvec=lambda v: of(torch.from_numpy(v).reshape(shape)), dtype=np.float64)
    system = operator(lambda v: back(composed(v, horizontal)))
    preconditioner = operator(lambda v: (v.flatten(1) @ inverse).flatten().numpy())
    better, _ = cg(system, back(weight), vertical.flatten().numpy(), rtol=1e-8, maxiter=STEPS, M=preconditioner)
    return torch.from_numpy(better).reshape(shape)
