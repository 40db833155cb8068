"""Weights as a train of small cores (Novikov et al., 2015 [49], section 3.2; Oseledets, 2011): with d cores
G_k [r_(k-1), m_k, n_k, r_k], r_0 = r_d = 1, the weight of output (j_1, ..., j_d) and input (i_1, ..., i_d) is the product of
the matrices G_1[:, j_1, i_1, :] ... G_d[:, j_d, i_d, :]. Two cores are a sum of r_1 Kronecker products.

cores float32 [sum of r_(k-1) m_k n_k r_k], one after the other, row-major; outputs m_k, inputs n_k, `ranks` r_1 to r_(d-1);
the first index is the slowest; shape [O, I] or [O, I, 1, 1]. Multiplied from the first core to the last.
"""

from math import prod

import torch


def reference(cores: torch.Tensor, outputs: list[int], inputs: list[int], ranks: list[int],
              shape: list[int]) -> torch.Tensor:
    if cores.dtype != torch.float32 or not len(outputs) == len(inputs) == len(ranks) + 1:
        raise ValueError(f"cores is {cores.dtype} with {len(outputs)} outputs, {len(inputs)} inputs and {len(ranks)} ranks;"
                         " it must be torch.float32, with as many outputs as inputs and one rank less")
    shapes = [list(each) for each in zip([1, *ranks], outputs, inputs, [*ranks, 1])]
    _check_sizes(cores, outputs, inputs, shapes, shape)
    parts = torch.split(cores, [prod(each) for each in shapes])
    return composed([part.view(each) for part, each in zip(parts, shapes)]).reshape(shape)


def composed(cores: list[torch.Tensor]) -> torch.Tensor:
    """The matrix [O, I] of cores [r_(k-1), m_k, n_k, r_k]."""
    whole = cores[0][0]
    for core in cores[1:]:
        product = torch.einsum("jir,rmns->jmins", whole, core)
        whole = product.flatten(0, 1).flatten(1, 2)
    return whole[..., 0]


def _check_sizes(cores, outputs, inputs, shapes, shape) -> None:
    """ValueError unless the cores have the numbers of a matrix of `shape`."""
    if [prod(outputs), prod(inputs)] != list(shape[:2]) or prod(shape[2:]) != 1:
        raise ValueError(f"outputs {outputs} and inputs {inputs} are a matrix {prod(outputs)} x {prod(inputs)}, not {shape}")
    if cores.numel() != sum(prod(each) for each in shapes):
        raise ValueError(f"cores has {cores.numel()} numbers; cores of shapes {shapes} have {sum(map(prod, shapes))}")


unpack_tensor_train = torch.library.custom_op("netwright::unpack_tensor_train", mutates_args=())(reference)


@unpack_tensor_train.register_fake
def _shape(cores, outputs, inputs, ranks, shape):
    return cores.new_empty(shape)
