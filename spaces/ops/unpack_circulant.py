"""Weights as circulant blocks (Cheng et al., 2015 [63]; Ding et al., CirCNN, 2017, section 3.1): with blocks of side b, the
weight of output p b + i and input q b + j is values[p, q, (i - j) mod b], the block's first column turned.

values [ceil(O/b), ceil(I/b), b] of any type; shape [O, I] or [O, I, 1, 1]: what the last blocks have past it is left out.
"""

from math import prod

import torch


def reference(values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    (outputs, inputs, *rest), (down, across, block) = shape, values.shape
    if (down, across) != (-(-outputs // block), -(-inputs // block)) or prod(rest) != 1:
        raise ValueError(f"values is {list(values.shape)}; {shape} has {-(-outputs // block)} x {-(-inputs // block)} blocks of"
                         f" {block}")
    place = torch.arange(block)
    turned = values[:, :, (place[:, None] - place) % block]
    return turned.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:outputs, :inputs].reshape(shape).contiguous()


unpack_circulant = torch.library.custom_op("netwright::unpack_circulant", mutates_args=())(reference)


@unpack_circulant.register_fake
def _shape(values, shape):
    return values.new_empty(shape)
