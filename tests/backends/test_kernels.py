"""Every kernel file: against torch or plain integer arithmetic, on random shapes, values and geometry."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lowering import algorithm_named, algorithms, name_of, ops
from backends.workload import Step, Workload
from tests.backends.running import TARGET, check, run, tensor_of

F = torch.nn.functional
CHANNELS = st.one_of(st.integers(1, 40), st.integers(1, 200), st.sampled_from([16, 24, 37, 64]))


@st.composite
def convolutions(draw):
    """Geometry of a convolution that exists: channels 1..200, sides 1..57, groups, strides, dilation."""
    style = draw(st.sampled_from(["pointwise", "plain", "3x3", "grouped", "depthwise"]))
    inputs, outputs = draw(CHANNELS), draw(CHANNELS)
    groups, kernel = 1, {"pointwise": [1, 1], "3x3": [3, 3]}.get(style) or [draw(st.integers(1, 7)) for _ in "yx"]
    if style == "grouped":
        groups = draw(st.integers(2, 3))
        inputs, outputs = groups * min(inputs, 40), groups * min(outputs, 40)
    if style == "depthwise":
        groups = outputs = inputs
    dilation = [draw(st.integers(1, 2)) for _ in "yx"] if style == "plain" else [1, 1]
    stride = [draw(st.integers(1, 2)) for _ in "yx"] if draw(st.booleans()) else [1, 1]
    padding = [draw(st.integers(0, k // 2 + 1)) for k in kernel]
    least = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in (0, 1)]
    size = [draw(st.integers(least[i], max(least[i], draw(st.sampled_from([9, 20, 57]))))) for i in (0, 1)]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return draw(st.integers(1, 2)), inputs, outputs, kernel, size, geometry, draw(st.integers(0, 2**31))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("conv2d")])
@given(case=convolutions(), low=st.sampled_from([-math.inf, 0.0]), high=st.sampled_from([math.inf, 6.0]),
       image=st.sampled_from(["channels_last", "channels_last", "plain"]))
@settings(max_examples=30, deadline=None)
def test_float_convolution_matches_torch(algorithm, case, low, high, image):
    batch, inputs, outputs, kernel, size, geometry, seed = case
    torch.manual_seed(seed)
    x, bias = torch.randn(batch, inputs, *size), torch.randn(outputs)
    weight = torch.randn(outputs, inputs // geometry["groups"], *kernel)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), **geometry).clamp(low, high).float()
    check("conv2d", algorithm, ["x", "weight", "bias"], [x, weight, bias], {**geometry, "low": low, "high": high},
          expected, image)


def integer_parameters(outputs: int, to_float: bool) -> tuple[list[torch.Tensor], dict]:
    """Random bias, scales and the rest of an integer epilogue."""
    bias = torch.randint(-20_000, 20_000, (outputs,), dtype=torch.int32)
    if to_float:
        return [bias, torch.rand(outputs) / 1000], {"shift": 0, "out_zero_point": 0, "low": 0.0, "high": math.inf}
    scale = torch.randint(2**20, 2**31 - 1, (outputs,), dtype=torch.int32)
    shift = int(torch.randint(30, 58, ()))
    return [bias, scale], {"shift": shift, "out_zero_point": 11, "low": 3.0, "high": 251.0}


def integer_result(sums: torch.Tensor, parameters: list[torch.Tensor], rest: dict, to_float: bool) -> torch.Tensor:
    """The epilogue in NumPy, on int64 sums [N, O, ...]."""
    bias, scale = (p.numpy().reshape(-1, *[1] * (sums.dim() - 2)) for p in parameters)
    total = sums.numpy() + bias
    if to_float:
        return torch.from_numpy(np.clip(total.astype("float32") * scale, rest["low"], rest["high"]).astype("float32"))
    wide = total.astype("int64") * scale.astype("int64") + 2 ** (rest["shift"] - 1)
    steps = (wide >> rest["shift"]) + rest["out_zero_point"]
    return torch.from_numpy(np.clip(steps, rest["low"], rest["high"]).astype("uint8"))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("int8_conv2d")])
@given(case=convolutions(), zero_point=st.integers(0, 255), to_float=st.booleans())
@settings(max_examples=40, deadline=None)
def test_int8_convolution_is_exact(algorithm, case, zero_point, to_float):
    batch, inputs, outputs, kernel, size, geometry, seed = case
    torch.manual_seed(seed)
    x = torch.randint(0, 256, (batch, inputs, *size), dtype=torch.uint8)
    weight = torch.randint(-127, 128, (outputs, inputs // geometry["groups"], *kernel), dtype=torch.int8)
    parameters, rest = integer_parameters(outputs, to_float)
    (py, px), plain = geometry["padding"], {**geometry, "padding": 0}
    sums = F.conv2d(F.pad(x.double(), [px, px, py, py], value=zero_point), weight.double(), **plain).long()
    check("int8_conv2d", algorithm, ["x", "weight", "bias", "scale"], [x, weight, *parameters],
          {**geometry, "zero_point": zero_point, **rest}, integer_result(sums, parameters, rest, to_float))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("int8_linear")])
@given(batch=st.integers(1, 3), inputs=st.integers(1, 200), outputs=st.integers(1, 70), to_float=st.booleans())
@settings(max_examples=25, deadline=None)
def test_int8_dense_is_exact(algorithm, batch, inputs, outputs, to_float):
    torch.manual_seed(inputs)
    x = torch.randint(0, 256, (batch, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    parameters, rest = integer_parameters(outputs, to_float)
    check("int8_linear", algorithm, ["x", "weight", "bias", "scale"], [x, weight, *parameters], rest,
          integer_result(x.long() @ weight.long().t(), parameters, rest, to_float))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("int8_linear")])
def test_int8_dense_sums_extremes_without_saturation(algorithm):
    """[46]: 255 x +-127, K = 4,096: where pmaddubsw would saturate its 16 bits."""
    x = torch.full((1, 4096), 255, dtype=torch.uint8)
    weight = torch.tensor([[127], [-127]], dtype=torch.int8).expand(2, 4096).contiguous()
    parameters = [torch.zeros(2, dtype=torch.int32), torch.ones(2)]
    rest = {"shift": 0, "out_zero_point": 0, "low": -math.inf, "high": math.inf}
    check("int8_linear", algorithm, ["x", "weight", "bias", "scale"], [x, weight, *parameters], rest,
          torch.tensor([[255 * 127 * 4096.0, -255 * 127 * 4096.0]]))


@pytest.mark.parametrize("algorithm", [name_of(a) for a in algorithms("linear")])
@given(batch=st.integers(1, 3), inputs=st.integers(1, 200), outputs=st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_dense_matches_torch(algorithm, batch, inputs, outputs):
    torch.manual_seed(inputs)
    x, weight, bias = torch.randn(batch, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    check("linear", algorithm, ["x", "weight", "bias"], [x, weight, bias], {"low": -math.inf, "high": math.inf},
          F.linear(x.double(), weight.double(), bias.double()).float())


IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))


@given(shape=IMAGES, integer=st.booleans(), kernel=st.integers(1, 3), stride=st.integers(1, 3), ceil=st.booleans())
@settings(max_examples=30, deadline=None)
def test_max_pool_matches_torch(shape, integer, kernel, stride, ceil):
    x = torch.randint(0, 256, shape).to(torch.uint8) if integer else torch.randn(shape) - 3
    padding = kernel // 2
    expected = F.max_pool2d(x.double(), kernel, stride, padding, ceil_mode=ceil).to(x.dtype)
    check("max_pool2d", "windows", ["x"], [x], {"kernel_size": [kernel] * 2, "stride": [stride] * 2,
                                                "padding": [padding] * 2, "ceil_mode": ceil}, expected)


@given(shape=IMAGES, kernel=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_average_pool_in_ceil_mode_averages_what_a_window_covers(shape, kernel):
    x = torch.randn(shape)
    expected = F.avg_pool2d(x, kernel, ceil_mode=True)
    check("avg_pool2d", "windows", ["x"], [x], {"kernel_size": [kernel] * 2, "ceil_mode": True}, expected)


@given(shape=IMAGES, scale=st.floats(0.01, 300), zero_point=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_quantising_matches_numpy_bit_for_bit(shape, scale, zero_point):
    inverse = float(np.float32(scale))
    x = torch.randn(shape)
    x.view(-1)[: 3] = torch.tensor([1e30, -1e30, 0.5 / inverse])[: x.numel()]
    steps = np.rint(x.numpy() * np.float32(inverse)).astype("float64") + zero_point
    check("quantize", "elementwise", ["x"], [x], {"inverse_scale": inverse, "zero_point": zero_point},
          torch.from_numpy(np.clip(steps, 0, 255).astype("uint8")))


ELEMENTWISE = {
    "relu": ({}, F.relu), "relu6": ({}, F.relu6), "hardsigmoid": ({}, F.hardsigmoid), "hardswish": ({}, F.hardswish),
    "sigmoid": ({}, torch.sigmoid), "silu": ({}, F.silu), "hardtanh": ({"min_val": -0.5, "max_val": 2.0}, lambda x: x.clamp(-0.5, 2)),
    "clamp": ({"min": 0.25}, lambda x: x.clamp(min=0.25)), "add": ({"other": 3.0}, lambda x: x + 3),
    "mul": ({"other": -2.5}, lambda x: x * -2.5),
}


@pytest.mark.parametrize("op", ELEMENTWISE)
@given(shape=st.one_of(IMAGES, st.tuples(st.integers(1, 3), st.integers(1, 70))))
@settings(max_examples=8, deadline=None)
def test_element_wise_ops_match_torch(op, shape):
    x, (arguments, expected) = 4 * torch.randn(shape), ELEMENTWISE[op]
    check(op, "elementwise", ["x"], [x], arguments, expected(x))


@given(shape=IMAGES)
@settings(max_examples=12, deadline=None)
def test_two_operands_and_layouts_match_torch(shape):
    x, y, gate = torch.randn(shape), torch.randn(shape), torch.rand(*shape[:2], 1, 1)
    check("add", "elementwise", ["x", "y"], [x, y], {}, x + y)
    check("mul", "elementwise", ["x", "y"], [x, gate], {}, x * gate)
    check("adaptive_avg_pool2d", "mean", ["x"], [x], {"output_size": [1, 1]}, x.mean((2, 3), keepdim=True))
    check("mean", "pixels", ["self"], [x], {"dim": (2, 3), "keepdim": False}, x.mean((2, 3)))
    check("clone", "vectors", ["self"], [x], {}, x, image="plain")
    check("softmax", "rows", ["x"], [5 * x.flatten(1)], {"dim": -1}, torch.softmax(5 * x.double().flatten(1), 1).float())


@given(shape=IMAGES, kernel=st.integers(1, 4), padding=st.booleans(), counted=st.booleans())
@settings(max_examples=12, deadline=None)
def test_average_pool_counts_its_padding_as_torch_does(shape, kernel, padding, counted):
    x, padding = torch.randn(*shape[:2], shape[2] + 3, shape[3] + 3), kernel // 2 * padding
    expected = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=counted)
    check("avg_pool2d", "windows", ["x"], [x], {"kernel_size": [kernel] * 2, "stride": [1, 1], "padding": [padding] * 2,
                                                "count_include_pad": counted}, expected)


@given(shape=IMAGES, outputs=st.integers(1, 40))
@settings(max_examples=12, deadline=None)
def test_steps_run_on_the_results_before_they_are_stored(shape, outputs):
    """A residual sum, h-swish and a quantise step in the kernel of a 1x1 convolution."""
    x, weight, bias = torch.randn(shape), torch.randn(outputs, shape[1], 1, 1), torch.randn(outputs)
    other = torch.randn(shape[0], outputs, *shape[2:])
    expected = F.hardswish(F.conv2d(x, weight, bias) + other)
    image = tensor_of(other, "channels_last")
    workload = Workload("conv2d", (("x", tensor_of(x, "channels_last")), ("weight", tensor_of(weight)), ("bias", tensor_of(bias))),
                        (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1),
                         ("low", -math.inf), ("high", math.inf)), image,
                        (Step("add", (None, image), (), image), Step("hardswish", (None,), (), image)))
    module = algorithm_named("conv2d", "direct")
    out = run(module, workload, module.options(workload, TARGET)[0], [x, weight, bias, other])
    np.testing.assert_allclose(out, expected.numpy(), rtol=1e-4, atol=1e-4 * float(expected.abs().max() + 1e-6))


@given(size=st.integers(1, 300), kept=st.floats(0.01, 1), integer=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_bitmap_is_unpacked_exactly(size, kept, integer):
    torch.manual_seed(size)
    weight = torch.randint(1, 100, (size,)).to(torch.int8) if integer else torch.randn(size)
    weight *= torch.rand(size) < kept
    weight[-1] = 3
    bits = torch.from_numpy(np.packbits((weight != 0).numpy(), bitorder="little"))
    check("unpack_bitmap", "sequential", ["bitmap", "values"], [bits, weight[weight != 0]], {"shape": [size]}, weight)


def test_every_kernel_folder_has_a_test_here():
    """A new op's kernels need a test: some file beside this one must name every folder."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not [op for op in ops() if f'"{op}"' not in text]


@pytest.mark.parametrize("op", ops())
def test_every_kernel_file_says_what_it_is_and_answers_the_interface(op):
    for module in algorithms(op):
        assert module.__doc__ and callable(module.serves) and callable(module.options) and callable(module.lower)
        assert isinstance(module.PRIORITY, int)
