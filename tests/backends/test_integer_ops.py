"""Kernels on uint8 tensors against NumPy, bit for bit: sums, products, other scales, means, tables, depthwise edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lowering import algorithms, name_of
from spaces.ops import int8_add, int8_avg_pool2d, int8_mul, int8_rescale
from spaces.prepared import Affine
from tests.backends.running import check
from tests.backends.test_kernels import integer_parameters, integer_result

IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9))
TYPES = st.builds(Affine, st.floats(0.003, 0.2).map(lambda s: float(np.float32(s))), st.integers(0, 255))


def image(shape, seed: int = 0) -> torch.Tensor:
    """Random bytes."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def nearest(total: np.ndarray, arguments: dict) -> torch.Tensor:
    """float32(total) * scale to the nearest whole number, halves to the even one, plus the zero point."""
    steps = np.rint(total.astype("float32") * np.float32(arguments["scale"])) + arguments["zero_point"]
    return torch.from_numpy(np.clip(steps, 0, 255).astype("uint8"))


def halved_up(total: np.ndarray, arguments: dict, low: float = 0, high: float = 255) -> torch.Tensor:
    """floor(total / 2^shift + 1/2) + zero point, in whole numbers without a bound."""
    steps = (total.astype(object) * 2 + 2 ** arguments["shift"]) // 2 ** (arguments["shift"] + 1) + arguments["zero_point"]
    return torch.from_numpy(np.clip(steps, low, high).astype("uint8"))


@given(shape=IMAGES, x=TYPES, y=TYPES, out=TYPES, rectified=st.booleans())
@settings(max_examples=60, deadline=None)
def test_sums_of_different_scales_are_exact_and_near_the_real_sum(shape, x, y, out, rectified):
    arguments = int8_add.arguments(x, y, out, 0.0 if rectified else -np.inf, np.inf)
    first, second = image(shape, 1), image(shape, 2)
    a, b = (tensor.numpy().astype("int64") for tensor in (first, second))
    total = (a - x.zero_point) * arguments["x_scale"] + (b - y.zero_point) * arguments["y_scale"]
    expected = halved_up(total, arguments, out.zero_point if rectified else 0)
    real = ((a - x.zero_point) * x.scale + (b - y.zero_point) * y.scale) / out.scale + out.zero_point
    assert np.abs(expected.numpy() - np.clip(real, out.zero_point if rectified else 0, 255)).max() <= 0.51
    check("int8_add", "elementwise", ["x", "y"], [first, second], arguments, expected)


@given(shape=IMAGES, x=TYPES, out=TYPES)
@settings(max_examples=40, deadline=None)
def test_another_scale_is_exact(shape, x, out):
    arguments, tensor = int8_rescale.arguments(x, out, -np.inf, np.inf), image(shape)
    total = (tensor.numpy().astype("int64") - x.zero_point) * arguments["scale"]
    check("int8_rescale", "elementwise", ["x"], [tensor], arguments, halved_up(total, arguments))


@given(shape=IMAGES, x=TYPES, y=TYPES, out=TYPES, gate=st.booleans())
@settings(max_examples=40, deadline=None)
def test_products_and_gates_are_exact_and_nearest_to_the_real_product(shape, x, y, out, gate):
    arguments = int8_mul.arguments(x, y, out)
    first, second = image(shape, 1), image((*shape[:2], 1, 1) if gate else shape, 2)
    product = (first.numpy().astype("int64") - x.zero_point) * (second.numpy().astype("int64") - y.zero_point)
    expected = nearest(product, arguments)
    real = product * (x.scale * y.scale / out.scale) + out.zero_point
    assert np.abs(expected.numpy() - np.clip(real, 0, 255)).max() <= 0.5001
    check("int8_mul", "elementwise", ["x", "y"], [first, second], arguments, expected)


@given(shape=IMAGES, x=TYPES, out=TYPES, stride=st.integers(1, 3), data=st.data())
@settings(max_examples=40, deadline=None)
def test_average_pools_are_exact(shape, x, out, stride, data):
    kernel = [data.draw(st.integers(1, side)) for side in shape[2:]]
    arguments, tensor = int8_avg_pool2d.arguments(x, out, kernel, [stride, stride]), image(shape)
    windows = np.lib.stride_tricks.sliding_window_view(tensor.numpy().astype("int64") - x.zero_point, kernel, (2, 3))
    total = windows[:, :, ::stride, ::stride].sum((4, 5))
    check("int8_avg_pool2d", "windows", ["x"], [tensor], arguments, nearest(total, arguments))


@given(shape=IMAGES, x=TYPES, side=st.sampled_from([2, 4]))
@settings(max_examples=30, deadline=None)
def test_averages_that_keep_their_scale_round_halves_to_even(shape, x, side):
    arguments, tensor = int8_avg_pool2d.arguments(x, x, [side] * 2, [1] * 2), image((*shape[:2], shape[2] + 3, shape[3] + 3))
    windows = np.lib.stride_tricks.sliding_window_view(tensor.numpy().astype("float64"), [side] * 2, (2, 3))
    means = np.rint(windows.mean((4, 5)) - x.zero_point) + x.zero_point
    check("int8_avg_pool2d", "windows", ["x"], [tensor], arguments, torch.from_numpy(means.astype("uint8")))


def test_the_average_of_a_window_wider_than_the_registers_is_exact():
    types = Affine(0.02, 3), Affine(0.01, 5)
    arguments, tensor = int8_avg_pool2d.arguments(*types, [56, 56], [56, 56]), image((1, 16, 56, 56))
    total = (tensor.numpy().astype("int64") - 3).sum((2, 3), keepdims=True)
    check("int8_avg_pool2d", "windows", ["x"], [tensor], arguments, nearest(total, arguments))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("int8_lookup")])
@given(shape=IMAGES, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_every_number_is_looked_up(algorithm, shape, seed):
    tensor, table = image(shape, seed), image((256,), seed + 1)
    check("int8_lookup", algorithm, ["x", "table"], [tensor, table], {}, torch.from_numpy(table.numpy()[tensor.numpy()]))


@given(shape=IMAGES, x=TYPES)
@settings(max_examples=20, deadline=None)
def test_real_numbers_of_bytes(shape, x):
    tensor = image(shape)
    real = (tensor.numpy().astype("float32") - np.float32(x.zero_point)) * np.float32(x.scale)
    check("dequantize", "elementwise", ["x"], [tensor], {"scale": x.scale, "zero_point": x.zero_point}, torch.from_numpy(real))


@given(batch=st.integers(1, 2), channels=st.integers(1, 4), height=st.integers(1, 20), width=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_planes_are_quantised_to_channels_last(batch, channels, height, width):
    x = torch.randn(batch, channels, height, width)
    steps = np.rint(x.numpy() * np.float32(31.5)) + 128
    check("quantize", "planes", ["x"], [x], {"inverse_scale": 31.5, "zero_point": 128},
          torch.from_numpy(np.clip(steps, 0, 255).astype("uint8")), image="plain")


@given(batch=st.integers(1, 2), channels=st.sampled_from([16, 17, 24, 40, 64, 72, 100, 130]), side=st.integers(1, 12),
       kernel=st.tuples(st.integers(1, 7), st.integers(1, 3)), stride=st.integers(1, 2), zero_point=st.integers(0, 255),
       seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_depthwise_dot_products_are_exact_at_every_edge(batch, channels, side, kernel, stride, zero_point, seed):
    torch.manual_seed(seed)
    padding = [k // 2 for k in kernel]
    x, weight = image((batch, channels, side, side), seed), torch.randint(-127, 128, (channels, 1, *kernel), dtype=torch.int8)
    parameters, rest = integer_parameters(channels, False)
    rest["shift"] = 33 + seed % 22
    padded = torch.nn.functional.pad(x.double(), [padding[1]] * 2 + [padding[0]] * 2, value=zero_point)
    sums = torch.nn.functional.conv2d(padded, weight.double(), None, stride, 0, 1, channels).long()
    geometry = {"stride": [stride] * 2, "padding": padding, "dilation": [1, 1], "groups": channels, "zero_point": zero_point}
    check("int8_conv2d", "depthwise_dot", ["x", "weight", "bias", "scale"], [x, weight, *parameters], {**geometry, **rest},
          integer_result(sums, parameters, rest, False))
