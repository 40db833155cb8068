"""Block-sparse weights: what is stored, and which blocks are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as loaded
from safetensors.torch import save

import spaces.ops
from spaces.block_mask import BlockMask, largest_blocks
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse

spaces.ops.register_all()
OPS = torch.ops.netwright
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([(), (1, 1), (3, 3), (2, 3)]))
BLOCKS = st.tuples(st.integers(1, 17), st.integers(1, 9))


@given(shape=SHAPES, blocks=BLOCKS, keep=st.floats(0.001, 1), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_masked_weights_survive_packing_saving_and_unpacking(shape, blocks, keep, seed):
    torch.manual_seed(seed)
    weight = torch.randn(*shape[:2], *shape[2])
    mask = largest_blocks(weight, *blocks, keep)
    packed = BlockMask(mask, *blocks).pack(weight * mask)
    tensors = {name: packed.arguments[name].contiguous() for name in ("bitmap", "values")}
    assert packed.stored_bytes == sum(tensor.nbytes for tensor in tensors.values())
    read = loaded(save(tensors))
    out = OPS.unpack_blocks(read["bitmap"], read["values"], packed.arguments["shape"])
    np.testing.assert_array_equal(out, weight * mask)


def test_the_blocks_of_largest_norm_are_kept():
    weight = torch.tensor([[1.0, 0.1, 3.0], [1.0, 0.1, 0.0], [0.2, 0.9, 1.1], [0.2, 0.9, 1.1]])
    expected = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    torch.testing.assert_close(largest_blocks(weight, 2, 1, 0.34), expected)


@given(shape=SHAPES, blocks=BLOCKS, keep=st.floats(0.001, 1))
@settings(max_examples=60, deadline=None)
def test_a_mask_keeps_its_share_of_blocks(shape, blocks, keep):
    weight, (rows, columns) = torch.randn(*shape[:2], *shape[2]), blocks
    mask = largest_blocks(weight, rows, columns, keep)[::rows, ::columns]
    assert int(mask.sum()) == max(1, round(keep * mask.numel()))


def test_a_frozen_layer_stores_bitmap_and_blocks_only():
    layer = parse("compression", "block_sparse-rows8-columns2-keep0.25").prepare(torch.nn.Conv2d(6, 20, 3))
    state = freeze(torch.nn.Sequential(layer)).state_dict()
    assert state["0.weight_bitmap"].shape == (-(-3 * 3 * 9 // 8),)
    assert state["0.weight_values"].shape == (round(0.25 * 81), 2, 8) and "0.weight" not in state


def test_stored_blocks_that_do_not_fit_are_named():
    bitmap, values = torch.zeros(1, dtype=torch.uint8), torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match=r"bitmap is torch.uint8 \[1\]; 18 blocks of 4x1 need uint8 \[3\]"):
        OPS.unpack_blocks(bitmap, values, [8, 9])
    with pytest.raises(ValueError, match=r"values are \[4\]; they must be \[kept, columns, rows\]"):
        OPS.unpack_blocks(bitmap, values[0, 0], [8, 1])
    with pytest.raises(ValueError, match=r"bitmap is torch.int32 \[1\]; 4 weights need uint8 \[1\]"):
        OPS.unpack_bitmap(bitmap.int(), values[0, 0], [2, 2])
    with pytest.raises(SpaceError, match="block_sparse rows is 0; it can be 1 to 64"):
        parse("compression", "block_sparse-rows0")
