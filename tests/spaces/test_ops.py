"""Deployed ops: reference arithmetic against NumPy, shapes, and the aten expansion that plain torch runs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spaces.ops
from spaces.ops import int8_mul
from spaces.prepared import Affine
from spaces.requantise import fixed_point

spaces.ops.register_all()
OPS = torch.ops.netwright


def numpy_conv(x, weight, stride, padding, dilation, groups, fill):
    """Plain loops over the kernel, in int64 or float64."""
    x = np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2], constant_values=fill)
    outputs, inputs, *kernel = weight.shape
    size = [(x.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    out = np.zeros((len(x), outputs, *size), x.dtype)
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for y in range(kernel[0]):
            for z in range(kernel[1]):
                rows, columns = y * dilation[0], z * dilation[1]
                part = x[:, first:first + inputs, rows:rows + stride[0] * size[0]:stride[0],
                         columns:columns + stride[1] * size[1]:stride[1]]
                out[:, o] += np.einsum("nchw,c->nhw", part, weight[o, :, y, z])
    return out


@st.composite
def convolutions(draw):
    """Shapes and geometry of a convolution that exists."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    kernel = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    geometry = [[draw(st.integers(1, 2)) for _ in "yx"], [draw(st.integers(0, 2)) for _ in "yx"],
                [draw(st.integers(1, 2)) for _ in "yx"]]
    size = [draw(st.integers(5, 9)), draw(st.integers(5, 9))]
    return (2, inputs, *size), (outputs, inputs // groups, *kernel), (*geometry, groups), draw(st.integers(0, 2**31))


@given(case=convolutions(), zero_point=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_int8_convolution_is_exact_integer_arithmetic(case, zero_point):
    x_shape, w_shape, geometry, seed = case
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(0, 256, x_shape), rng.integers(-127, 128, w_shape)
    bias, scale = (rng.integers(*r, w_shape[0]) for r in ((-9999, 9999), (2**20, 2**31)))
    shift = int(rng.integers(30, 46))
    total = numpy_conv(x, weight, *geometry, zero_point) + bias.reshape(-1, 1, 1)
    wide = total.astype(object) * scale.reshape(-1, 1, 1) + 2 ** (shift - 1)
    steps = wide // 2**shift + 7
    ints = [torch.from_numpy(v.astype("int32")) for v in (bias, scale)]
    out = OPS.int8_conv2d(torch.from_numpy(x.astype("uint8")), torch.from_numpy(weight.astype("int8")), *ints,
                          *geometry, zero_point, shift, 7, 5.0, 250.0)
    np.testing.assert_array_equal(out.numpy(), np.clip(steps, 5, 250).astype("uint8"))


@given(case=convolutions())
@settings(max_examples=30, deadline=None)
def test_convolution_matches_plain_loops(case):
    x_shape, w_shape, geometry, seed = case
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[0]))
    out = OPS.conv2d(*(torch.from_numpy(v.astype("float32")) for v in (x, weight, bias)), *geometry, 0.0, 6.0)
    expected = np.clip(numpy_conv(x, weight, *geometry, 0) + bias.reshape(-1, 1, 1), 0, 6)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-4)


def test_int8_dense_sums_extremes_without_overflow():
    """[46]: 255 x +-127 over 4,096 inputs."""
    x = torch.full((1, 4096), 255, dtype=torch.uint8)
    weight = torch.tensor([[127], [-127]], dtype=torch.int8).expand(2, 4096).contiguous()
    zeros = torch.zeros(2, dtype=torch.int32)
    out = OPS.int8_linear(x, weight, zeros, torch.ones(2), 0, 0, -float("inf"), float("inf"))
    assert out.tolist() == [[255 * 127 * 4096.0, -255 * 127 * 4096.0]]


@given(multiplier=st.floats(1e-8, 1e6))
@settings(max_examples=300, deadline=None)
def test_a_multiplier_becomes_an_integer_of_31_bits_and_smaller_ones_share_its_shift(multiplier):
    (largest, smaller), shift = fixed_point(torch.tensor([multiplier, multiplier / 100], dtype=torch.float64))
    assert 1 <= shift <= 62 and 0 < int(smaller) < int(largest) < 2**31
    assert int(largest) / 2**shift == pytest.approx(multiplier, rel=2**-30)
    assert int(smaller) / 2**shift == pytest.approx(multiplier / 100, rel=2**-23)


def test_a_product_whose_steps_no_kernel_could_round_is_refused():
    with pytest.raises(ValueError, match="past 2.22"):
        int8_mul.arguments(Affine(1.0, 0), Affine(1.0, 0), Affine(0.01, 0))


def test_quantising_rounds_halves_to_even_and_saturates():
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, 1e9, -1e9])
    assert OPS.quantize(x, 2.0, 10).tolist() == [10, 12, 12, 10, 255, 0]


@given(seed=st.integers(0, 10**6), size=st.integers(1, 70), kept=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_bitmap_unpacks_to_the_weights_that_numpy_packed(seed, size, kept):
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(size) < kept, rng.standard_normal(size), 0).astype("float32")
    bitmap = torch.from_numpy(np.packbits(weight != 0, bitorder="little"))
    out = OPS.unpack_bitmap(bitmap, torch.from_numpy(weight[weight != 0]), [size, 1])
    np.testing.assert_array_equal(out.numpy()[:, 0], weight)


EXAMPLES = {
    "conv2d": lambda: (torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3), torch.randn(3), [2, 1], [1, 1], [1, 1], 1, 0.0, 6.0),
    "linear": lambda: (torch.randn(2, 4), torch.randn(3, 4), torch.randn(3), 0.0, 6.0),
    "int8_conv2d": lambda: (torch.randint(0, 255, (1, 2, 5, 5), dtype=torch.uint8),
                            torch.randint(-127, 127, (4, 1, 3, 3), dtype=torch.int8),
                            *(torch.full((4,), v, dtype=torch.int32) for v in (5, 2**30)),
                            [2, 1], [1, 1], [1, 1], 2, 3, 38, 4, 0.0, 255.0),
    "int8_linear": lambda: (torch.randint(0, 255, (2, 4), dtype=torch.uint8),
                            torch.randint(-127, 127, (3, 4), dtype=torch.int8),
                            *(torch.full((3,), v, dtype=torch.int32) for v in (5, 2**30)), 38, 4, 0.0, 255.0),
    "quantize": lambda: (torch.randn(2, 3), 31.0, 128),
    "dequantize": lambda: (torch.randint(0, 255, (2, 3), dtype=torch.uint8), 0.125, 7),
    "int8_add": lambda: (*torch.randint(0, 255, (2, 1, 3, 2, 2), dtype=torch.uint8), 3, 70_000, 9, 50_000, 16, 5, 0.0, 255.0),
    "int8_mul": lambda: (torch.randint(0, 255, (1, 3, 2, 2), dtype=torch.uint8), torch.randint(0, 255, (1, 3, 1, 1), dtype=torch.uint8),
                         3, 9, 0.0086, 5),
    "int8_rescale": lambda: (torch.randint(0, 255, (1, 3, 2, 2), dtype=torch.uint8), 3, 70_000, 16, 5, 0.0, 255.0),
    "int8_lookup": lambda: (torch.randint(0, 255, (1, 3, 2, 2), dtype=torch.uint8), torch.arange(255, -1, -1, dtype=torch.uint8)),
    "int8_avg_pool2d": lambda: (torch.randint(0, 255, (1, 3, 5, 4), dtype=torch.uint8), [3, 2], [2, 1], 3, 0.125, 5),
    "binarize": lambda: (torch.randn(2, 11, 3, 2), 0.25),
    "binary_conv2d": lambda: (OPS.binarize(torch.randn(1, 37, 5, 5), 0.0), OPS.binarize(torch.randn(4, 37, 3, 3), 0.0),
                              torch.randn(4), torch.randn(4), 37, [2, 1], [1, 1], [1, 1], 1, 0.0, 6.0),
    "binary_linear": lambda: (OPS.binarize(torch.randn(2, 11), 0.0), OPS.binarize(torch.randn(3, 11), 0.0),
                              torch.randn(3), torch.randn(3), 11, 0.0, 6.0),
    "unpack_circulant": lambda: (torch.randn(2, 3, 4), [7, 9, 1, 1]),
    "unpack_tensor_train": lambda: (torch.randn(2 * 3 * 2 + 2 * 3 * 2 * 3 + 3 * 4), [2, 3, 1], [3, 2, 4], [2, 3], [6, 24]),
    "unpack_bitmap": lambda: (torch.tensor([5], dtype=torch.uint8), torch.tensor([1.0, 2.0]), [2, 2]),
    "unpack_bits": lambda: (torch.randint(0, 255, (2, 3), dtype=torch.uint8), 3, [2, 7]),
    "unpack_pow2": lambda: (torch.randint(0, 255, (2, 4), dtype=torch.uint8), 4, [2, 7]),
    "unpack_ternary": lambda: (*torch.randint(0, 255, (2, 2, 1), dtype=torch.uint8), [2, 7]),
    "unpack_signs": lambda: (torch.randint(0, 255, (2, 1), dtype=torch.uint8), [2, 7]),
    "unpack_blocks": lambda: (torch.tensor([5], dtype=torch.uint8), torch.randn(2, 2, 4), [7, 3, 1, 1]),
    "unpack_codebook": lambda: (torch.tensor([0b10011100], dtype=torch.uint8), torch.randn(2, 4, 3), 2, [2, 5]),
    "unpack_hashed": lambda: (torch.randn(3), 7, [2, 4]),
}


@pytest.mark.parametrize("name", spaces.ops.names())
def test_every_op_passes_torch_library_checks_and_expands_to_aten(name):
    """A new op needs an example here, since its arguments cannot be guessed."""
    operator, arguments = getattr(OPS, name).default, EXAMPLES[name]()
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))

    class Call(torch.nn.Module):
        def forward(self, *inputs):
            return operator(*inputs, *arguments[len(inputs):])

    tensors = tuple(value for value in arguments if isinstance(value, torch.Tensor))
    program = torch.export.export(Call(), tensors).run_decompositions(spaces.ops.references())
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("netwright" in target for target in called)
    torch.testing.assert_close(program.module()(*tensors), operator(*arguments))
