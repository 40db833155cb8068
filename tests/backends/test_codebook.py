"""Kernels of shared weights: codebooks and hashed tables unpacked."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.running import check
from tests.spaces.test_codebook import codebooks, looked_up, packed


@given(case=codebooks())
@settings(max_examples=40, deadline=None)
def test_a_codebook_is_unpacked_exactly(case):
    codes, table, bits, shape = case
    check("unpack_codebook", "sequential", ["codes", "table"], [torch.from_numpy(packed(codes, bits).copy()), torch.from_numpy(table)],
          {"bits": bits, "shape": shape}, torch.from_numpy(looked_up(codes, table, shape)), out="plain")


@given(seed=st.integers(0, 2**32 - 1), entries=st.integers(1, 300), shape=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_hashed_weights_are_unpacked_exactly(seed, entries, shape):
    table = torch.from_numpy(np.random.default_rng(seed).standard_normal(entries).astype("float32"))
    expected = torch.ops.netwright.unpack_hashed(table, seed, shape)
    check("unpack_hashed", "sequential", ["table"], [table], {"seed": seed, "shape": shape}, expected, out="plain")
