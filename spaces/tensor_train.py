"""A layer's weights as a tensor train (Novikov et al., 2015 [49]; Oseledets, 2011, algorithm 1: TT-SVD)."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from spaces.ops.unpack_tensor_train import composed
from spaces.prepared import Packed
from spaces.truncated_svd import truncated_svd


class TensorTrain(nn.Module):
    """A parametrisation: a weight of `shape`, [O, I] or [O, I, 1, 1], of `dims` trainable cores; no rank is above `rank`."""

    def __init__(self, shape: list[int], dims: int, rank: int):
        super().__init__()
        self.shape, self.rank = shape, rank
        self.outputs, self.inputs = balanced(shape[0], dims), balanced(shape[1], dims)

    def forward(self, *cores):
        return composed(list(cores)).reshape(self.shape)

    def right_inverse(self, weight):
        """The cores of the nearest train, split off one by one by truncated singular value decompositions."""
        return tuple(core.to(torch.float32) for core in self._decomposed(weight.detach().double()))

    def _decomposed(self, weight: torch.Tensor) -> list[torch.Tensor]:
        dims = len(self.outputs)
        interleaved = [axis for k in range(dims) for axis in (k, dims + k)]
        rest, left, cores = weight.reshape(*self.outputs, *self.inputs).permute(interleaved), 1, []
        for m, n in list(zip(self.outputs, self.inputs))[:-1]:
            u, sigma, v = truncated_svd(rest.reshape(left * m * n, -1), self.rank)
            cores.append(u.reshape(left, m, n, len(sigma)))
            rest, left = sigma[:, None] * v, len(sigma)
        return [*cores, rest.reshape(left, self.outputs[-1], self.inputs[-1], 1)]

    def pack(self, weight: torch.Tensor) -> torch.Tensor | Packed:
        """The cores; weights that were rounded after them have none and stay whole."""
        if weight.dtype != torch.float32:
            return weight
        cores = self.right_inverse(weight)
        return Packed("unpack_tensor_train", {
            "cores": torch.cat([core.flatten() for core in cores]), "outputs": self.outputs, "inputs": self.inputs,
            "ranks": [core.shape[3] for core in cores[:-1]], "shape": self.shape})


def as_train(layer: nn.Module, dims: int, rank: int) -> nn.Module:
    """The layer with weights of `dims` cores; as it was where these would not be smaller."""
    train = TensorTrain(list(layer.weight.shape), dims, rank)
    if sum(core.numel() for core in train.right_inverse(layer.weight)) < layer.weight.numel():
        parametrize.register_parametrization(layer, "weight", train)
    return layer


def balanced(number: int, parts: int) -> list[int]:
    """Factors of a number, about as large as each other, the largest first: its prime factors, largest first, each to the
    smallest product so far."""
    factors = [1] * parts
    for prime in sorted(_primes(number), reverse=True):
        factors[factors.index(min(factors))] *= prime
    return sorted(factors, reverse=True)


def _primes(number: int) -> list[int]:
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found + [number] * (number > 1)
