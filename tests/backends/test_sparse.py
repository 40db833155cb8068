"""Layers with sparse weights, computed from the stored form: against torch's dense arithmetic in double precision."""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.compile import compile_program
from backends.graph import read
from backends.lowering import algorithm_named, algorithms, choices, name_of, served_on
from backends.store import Store, Trial
from backends.target import load
from backends.transpose import transpose
from backends.tune import bare, tune
from backends.unpacking import compound, packed_layers, plain
from backends.verify import verify
from backends.workload import Tensor, Workload
from tests.backends.running import TARGET, check, execute, run, tensor_of
from tests.backends.test_compile import IMAGES, compiled, program

F = torch.nn.functional
LOCAL = load("local")
BLOCKS = st.sampled_from([(16, 1), (8, 1), (4, 4), (1, 8), (32, 1), (5, 3), (1, 1)])


def blocks_by_hand(weight: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which blocks hold something, and those, one by one: outputs, then inputs, then the kernel's pixels."""
    outputs, inputs = weight.shape[:2]
    flat, bits, kept = weight.reshape(outputs, inputs, -1), [], []
    for o in range(0, outputs, rows):
        for c in range(0, inputs, columns):
            for tap in range(flat.shape[2]):
                block = np.zeros((columns, rows), weight.dtype)
                part = flat[o:o + rows, c:c + columns, tap].T
                block[:part.shape[0], :part.shape[1]] = part
                bits.append(bool(part.any()))
                kept += [block] if part.any() else []
    return np.array(bits), kept


def sparse(shape: tuple[int, ...], rows: int, columns: int, keep: float) -> torch.Tensor:
    """Random weights in which whole blocks are zero, but not all of them."""
    outputs, inputs, *kernel = shape
    mask = torch.rand(-(-outputs // rows), -(-inputs // columns), *kernel) < keep
    mask.view(-1)[torch.randint(mask.numel(), (1,))] = True
    whole = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:outputs, :inputs]
    return torch.randn(shape) * whole


def stored(weight: torch.Tensor, form: str, rows: int = 1, columns: int = 1) -> tuple[list[torch.Tensor], Workload]:
    """The tensors of a stored form, and the workload that unpacks them."""
    bits, kept = blocks_by_hand(weight.numpy(), rows, columns)
    values = np.array([block[0, 0] for block in kept]) if form == "unpack_bitmap" else np.stack(kept)
    tensors = [torch.from_numpy(np.packbits(bits, bitorder="little")), torch.from_numpy(values)]
    named = tuple(zip(("bitmap", "values"), map(tensor_of, tensors)))
    return tensors, Workload(form, named, (("shape", tuple(weight.shape)),), tensor_of(weight))


def check_layer(op: str, algorithm: str, x, tensors, unpack, bias, arguments, expected, image="channels_last"):
    """Every option of a kernel file of a compound op."""
    check(op, algorithm, ["x", "weight.bitmap", "weight.values", "bias"], [x, *tensors, bias], arguments, expected,
          image, unpack=unpack)


@st.composite
def convolutions(draw):
    """Geometry of a convolution: odd channels, groups, strides, dilation, padding, odd sizes, two images."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 40)), groups * draw(st.sampled_from([1, 5, 8, 16, 21, 37, 64]))
    kernel = draw(st.sampled_from([[1, 1], [1, 1], [3, 3], [3, 3], [5, 5], [2, 3], [1, 4]]))
    stride, dilation = ([draw(st.integers(1, 3)) for _ in "yx"] if draw(st.booleans()) else [1, 1] for _ in range(2))
    padding = [draw(st.integers(0, k // 2 + 1)) for k in kernel]
    least = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in (0, 1)]
    size = [draw(st.integers(least[i], max(least[i], draw(st.sampled_from([3, 9, 20, 40]))))) for i in (0, 1)]
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return draw(st.integers(1, 2)), inputs, outputs, kernel, size, geometry, draw(st.integers(0, 2**31))


KERNELS = [(op, name_of(a)) for op in ("conv2d_unpack_bitmap", "conv2d_unpack_blocks") for a in algorithms(op)]


@pytest.mark.parametrize("op, algorithm", KERNELS)
@given(case=convolutions(), blocks=BLOCKS, keep=st.floats(0, 1), clamp=st.sampled_from([(-math.inf, math.inf), (0.0, 6.0)]),
       image=st.sampled_from(["channels_last", "channels_last", "plain"]))
@settings(max_examples=25, deadline=None)
def test_a_sparse_convolution_is_the_dense_one_of_its_weights(op, algorithm, case, blocks, keep, clamp, image):
    batch, inputs, outputs, kernel, size, geometry, seed = case
    torch.manual_seed(seed)
    form = op.removeprefix("conv2d_")
    blocks = blocks if form == "unpack_blocks" else (1, 1)
    weight = sparse((outputs, inputs // geometry["groups"], *kernel), *blocks, keep)
    x, bias = torch.randn(batch, inputs, *size), torch.randn(outputs)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), **geometry).clamp(*clamp).float()
    check_layer(op, algorithm, x, *stored(weight, form, *blocks), bias,
                {**geometry, "low": clamp[0], "high": clamp[1]}, expected, image)


@pytest.mark.parametrize("op", ["linear_unpack_bitmap", "linear_unpack_blocks"])
@given(batch=st.integers(1, 3), inputs=st.integers(1, 200), outputs=st.integers(1, 70), blocks=BLOCKS, keep=st.floats(0, 1),
       seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_sparse_dense_layer_is_the_dense_one_of_its_weights(op, batch, inputs, outputs, blocks, keep, seed):
    torch.manual_seed(seed)
    form = op.removeprefix("linear_")
    blocks = blocks if form == "unpack_blocks" else (1, 1)
    weight, x, bias = sparse((outputs, inputs), *blocks, keep), torch.randn(batch, inputs), torch.randn(outputs)
    expected = F.linear(x.double(), weight.double(), bias.double()).float()
    check_layer(op, "outputs", x, *stored(weight, form, *blocks), bias, {"low": -math.inf, "high": math.inf},
                expected)


@given(shape=st.sampled_from([(37, 5, 3, 3), (16, 8, 1, 1), (9, 30), (64, 3, 5, 5)]), blocks=BLOCKS, keep=st.floats(0, 1),
       integer=st.booleans())
@settings(max_examples=30, deadline=None)
def test_blocks_are_unpacked_exactly(shape, blocks, keep, integer):
    weight = sparse(shape, *blocks, keep)
    weight = (40 * weight).round().clamp(-127, 127).to(torch.int8) if integer else weight
    weight.view(-1)[0] = 3
    tensors, unpack = stored(weight, "unpack_blocks", *blocks)
    out = run(algorithm_named("unpack_blocks", "sequential"), unpack, {}, tensors)
    np.testing.assert_array_equal(out, weight.numpy())


def layer(inputs: int, outputs: int, side: int, groups: int = 1) -> Workload:
    """A 3x3 convolution."""
    image = [Tensor((1, channels, side, side), "float32", "channels_last") for channels in (inputs, outputs)]
    return Workload(
        "conv2d", (("x", image[0]), ("weight", Tensor((outputs, inputs // groups, 3, 3), "float32")),
                   ("bias", Tensor((outputs,), "float32"))),
        (("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", groups), ("low", -math.inf),
         ("high", math.inf)), image[1])


def refused(form: str, blocks: tuple[int, int], dense: Workload, target) -> list[str]:
    """Why the tuner refused options of a sparse layer, if it did; it measures some."""
    _, unpack = stored(sparse(dense["weight"].shape, *blocks, 0.4), form, *blocks)
    trials = tune(compound(dense, unpack), target)
    assert trials
    return [trial.refused for trial in trials if trial.refused]


FORMS = [("unpack_bitmap", (1, 1)), ("unpack_blocks", (16, 1)), ("unpack_blocks", (4, 4))]


@pytest.mark.parametrize("target", ["local", "x86-64-v3"])
@pytest.mark.parametrize("form, blocks", FORMS)
def test_the_tuner_refuses_no_option_on_any_target(form, blocks, target):
    assert not refused(form, blocks, layer(20, 24, 9), load(target))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("form, blocks", FORMS)
def test_several_threads_compute_what_one_does(form, blocks, threads):
    target = replace(load("local"), threads=threads)
    assert target.threads_for(int(0.3 * 64 * 64 * 9 * 15**2) // target.lanes) == threads
    assert not refused(form, blocks, layer(64, 64, 15), target)


@pytest.mark.parametrize("blocks, groups, serves", [((16, 1), 3, False), ((8, 4), 1, False), ((3, 1), 1, False),
                                                    ((8, 3), 1, True)])
def test_blocks_that_cross_groups_or_vectors_or_end_past_the_inputs_are_left_to_unpacking(blocks, groups, serves):
    workload = layer(30, 60, 9, groups)
    _, unpack = stored(sparse((60, 30 // groups, 3, 3), *blocks, 0.5), "unpack_blocks", *blocks)
    served = [a.serves(compound(workload, unpack), LOCAL) for a in algorithms("conv2d_unpack_blocks")]
    assert any(served) == serves


@given(rows=st.integers(1, 40), columns=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_transposed_matrix_is_numpys(rows, columns):
    from backends.emit import function, load as read, store

    def body(given, out):
        transpose(rows, columns, TARGET.lanes, lambda row, column, n: read(given, row * columns + column, n),
                  lambda column, row, n, numbers: store(out, numbers, column * rows + row, n))
    tensors = [Tensor((rows, columns), "float32"), Tensor((columns, rows), "float32")]
    written = function(tensors, body).with_attr("global_symbol", "main")
    matrix = np.arange(rows * columns, dtype="float32").reshape(rows, columns)
    out = execute({"main": written}, [("main", [matrix, np.zeros((columns, rows), "float32")])], TARGET)
    np.testing.assert_array_equal(out, matrix.T)


def test_networks_with_sparse_layers_in_floats_and_integers_compile_to_what_they_compute(tmp_path):
    exported = program("conv:16/1 [*=block_sparse-keep0.3] mbconv-expand3:24/2 [expand=magnitude-keep0.2]"
                       " conv:32/1 [*=magnitude-keep0.1] conv:16/1 [*=block_sparse-rows8-keep0.3+int8]"
                       " classifier:5/1 [*=block_sparse-rows4-columns2]")
    library, report, _ = compiled(exported, tmp_path)
    assert report.fallback == 0 and verify(exported, library, IMAGES, LOCAL, report.packed).mismatch == ""
    assert sum(bool(op.weights) for op in report.ops) == 5


@pytest.mark.parametrize("packed_us, weights", [(1.0, "packed"), (3.0, "unpacked")])
@pytest.mark.parametrize("method", ["magnitude-keep0.2", "block_sparse-keep0.2"])
def test_the_faster_of_stored_and_unpacked_weights_is_compiled_and_reported(method, packed_us, weights, tmp_path):
    exported = program(f"conv:16/1 [*={method}] classifier:5/1")
    name, workload = next(iter(packed_layers(read(exported, served_on(LOCAL))).items()))
    with closing(Store(tmp_path / "kernels.db", LOCAL)) as store:
        for measured, us in ((workload, packed_us), (plain(workload), 2.0)):
            algorithm, option = choices(measured, LOCAL)[0]
            store.add(bare(measured), [Trial(name_of(algorithm), option, (us,))])
    report = compile_program(exported, LOCAL, tmp_path / "model.so", tmp_path / "kernels.db")
    assert [op.weights for op in report.ops if op.weights] == [weights]
    assert report.packed == ((name,) if weights == "packed" else ())
