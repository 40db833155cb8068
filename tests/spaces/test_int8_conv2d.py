"""The reference of integer convolutions sums exactly, however it sums."""

import numpy as np
import pytest
import torch

from spaces.ops.int8_conv2d import reference
from tests.cases._numpy import convolved

SHAPES = {  # input, weight, stride, padding, dilation, groups
    "just within float32": ((2, 57, 8, 8), (8, 57, 3, 3), 1, 1, 1, 1),
    "one channel more": ((2, 58, 8, 8), (8, 58, 3, 3), 1, 1, 1, 1),
    "many parts": ((1, 1500, 3, 3), (4, 1500, 1, 1), 1, 0, 1, 1),
    "a kernel past float32 by itself": ((1, 2, 23, 23), (3, 2, 23, 23), 1, 0, 1, 1),
    "groups past float32": ((1, 120, 6, 6), (4, 60, 3, 3), 2, 1, 1, 2),
    "depthwise": ((1, 20, 9, 9), (20, 1, 5, 5), 2, 2, 1, 20),
    "a row": ((2, 60, 6, 9), (8, 60, 1, 3), 1, 1, 1, 1),
    "a column, in steps of two": ((2, 60, 9, 6), (8, 60, 5, 1), 2, 2, 1, 1),
    "an even width": ((2, 20, 6, 7), (8, 20, 3, 2), 1, 1, 2, 1),
    "dilated, wide padding": ((1, 12, 13, 10), (8, 12, 3, 3), 2, 4, 3, 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_greatest_sums_are_exact(name):
    shape, kernels, stride, padding, dilation, groups = SHAPES[name]
    random = np.random.default_rng(0)
    x, weight = random.integers(200, 256, shape).astype("uint8"), random.integers(-128, 128, kernels).astype("int8")
    weight[0], weight[1] = -128, 127
    geometry = [stride] * 2, [padding] * 2, [dilation] * 2, groups
    sums = convolved(x, weight, *geometry, 7).astype(np.float64)
    bias = -sums.reshape(sums.shape[0], sums.shape[1], -1)[0, :, 0].astype("int32")  # what is left shows its last digits
    wanted = (sums + bias[:, None, None]).astype("float32")
    found = reference(*map(torch.from_numpy, (x, weight, bias)), torch.ones(kernels[0]), *geometry, 7, -3e38, 3e38)
    assert np.array_equal(found.numpy(), wanted)
