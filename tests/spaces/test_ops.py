"""Deployed ops, every one in the folder: reference arithmetic against NumPy on the op's cases (`tests/cases`), what it
stores, and the aten expansion that plain torch runs."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spaces.ops
from spaces.huffman import stored_bytes, write
from spaces.ops import int8_add, int8_avg_pool2d, int8_mul, int8_rescale
from spaces.prepared import Affine, Packed
from spaces.weights import CODED_FILE, PLAIN_FILE, read
from tests.cases import Case, case

spaces.ops.register_all()
OPS = torch.ops.netwright
INPUTS = ("x", "y")  # the tensors of an op that come from other ops; all others are stored
STORING = [name for name in spaces.ops.names() if case(name, 0).tensors.keys() - set(INPUTS)]
CASES = 200


def result(one: Case, **stored: np.ndarray) -> np.ndarray:
    """What the op's reference gives, with these tensors in place of the case's."""
    tensors = [torch.from_numpy(stored.get(name, value)) for name, value in one.tensors.items()]
    return getattr(OPS, one.op)(*tensors, **one.arguments).numpy()


@pytest.mark.parametrize("op", spaces.ops.names())
def test_a_reference_computes_what_numpy_does(op):
    for one in (case(op, number) for number in range(CASES)):
        out = result(one)
        assert out.dtype == one.expected.dtype, one
        np.testing.assert_allclose(out, one.expected, rtol=0, atol=one.allowed, err_msg=str(one))


@pytest.mark.parametrize("coded, count", [([], CASES), (["layer"], 10), pytest.param(["layer"], CASES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("op", STORING)
def test_what_an_op_stores_is_read_back_and_takes_the_bytes_that_are_said(op, coded, count, tmp_path):
    """As it is, and in Huffman codes: the payload of either file is what is said; its header, which names the tensors, is
    no part of it."""
    for one in (case(op, number) for number in range(count)):
        stored = {f"layer.{name}": value for name, value in one.tensors.items() if name not in INPUTS}
        write(stored, coded, tmp_path)
        found = {name.removeprefix("layer."): value for name, value in read(tmp_path).items()}
        assert payload(tmp_path, stored) == sum(stored_bytes(stored, coded).values()), one
        assert all(found[name].dtype == one.tensors[name].dtype for name in found)
        np.testing.assert_array_equal(result(one, **found), result(one), err_msg=str(one))
        (tmp_path / CODED_FILE).unlink(missing_ok=True)


def payload(folder, stored: dict) -> int:
    """Bytes of the files behind their headers, which name every stored tensor once."""
    found, size = [], 0
    for path in filter(lambda path: path.exists(), (folder / PLAIN_FILE, folder / CODED_FILE)):
        data = path.read_bytes()
        header = 8 + int.from_bytes(data[:8], "little")
        found += json.loads(data[8:header]).keys() - {"__metadata__"}
        size += len(data) - header
    assert sorted(found) == sorted(stored)
    return size


@pytest.mark.parametrize("op", [name for name in STORING if name.startswith("unpack_")])
def test_packed_weights_say_the_bytes_of_their_tensors(op):
    for one in (case(op, number) for number in range(CASES)):
        packed = Packed(op, {name: torch.from_numpy(value) for name, value in one.tensors.items()} | one.arguments)
        assert packed.stored_bytes == sum(value.nbytes for value in one.tensors.values())


@pytest.mark.parametrize("name", spaces.ops.names())
def test_every_op_passes_torch_library_checks_and_expands_to_aten(name):
    operator, one = getattr(OPS, name).default, case(name, 0)
    tensors = tuple(map(torch.from_numpy, one.tensors.values()))
    arguments = (*tensors, *(one.arguments[argument.name] for argument in operator._schema.arguments[len(tensors):]))
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))

    class Call(torch.nn.Module):
        def forward(self, *inputs):
            return operator(*inputs, *arguments[len(inputs):])

    program = torch.export.export(Call(), tensors).run_decompositions(spaces.ops.references())
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("netwright" in target for target in called)
    torch.testing.assert_close(program.module()(*tensors), operator(*arguments))


def test_int8_dense_sums_extremes_without_overflow():
    """[46]: 255 x +-127 over 4,096 inputs."""
    x = torch.full((1, 4096), 255, dtype=torch.uint8)
    weight = torch.tensor([[127], [-127]], dtype=torch.int8).expand(2, 4096).contiguous()
    zeros = torch.zeros(2, dtype=torch.int32)
    out = OPS.int8_linear(x, weight, zeros, torch.ones(2), -float("inf"), float("inf"))
    assert out.tolist() == [[255 * 127 * 4096.0, -255 * 127 * 4096.0]]


@pytest.mark.parametrize("scale, out", [(1e30, 1e-30), (1e-30, 1e30)])
def test_scales_whose_ratio_float32_cannot_hold_are_refused(scale, out):
    with pytest.raises(ValueError, match="float32 cannot hold"):
        int8_rescale.arguments(Affine(scale, 0), Affine(out, 0), -math.inf, math.inf)


TYPES = st.builds(Affine, st.floats(0.003, 0.2).map(lambda s: float(np.float32(s))), st.integers(0, 255))


@given(x=TYPES, y=TYPES, out=TYPES, rectified=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_integer_sums_products_means_and_other_scales_are_near_the_real_ones(x, y, out, rectified, seed):
    first, second = torch.randint(0, 256, (2, 1, 5, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    a, b = ((tensor.numpy().astype(float) - kind.zero_point) * kind.scale for tensor, kind in ((first, x), (second, y)))
    low = 0.0 if rectified else -math.inf
    near(OPS.int8_add(first, second, **int8_add.arguments(x, y, out, low, math.inf)), a + b, out, low)
    near(OPS.int8_rescale(first, **int8_rescale.arguments(x, out, low, math.inf)), a, out, low)
    near(OPS.int8_mul(first, second, **int8_mul.arguments(x, y, out)), a * b, out)
    near(OPS.int8_avg_pool2d(first, **int8_avg_pool2d.arguments(x, out, [4, 4], [4, 4])), a.mean((2, 3), keepdims=True), out)


def near(steps: torch.Tensor, real: np.ndarray, out: Affine, low: float = -math.inf) -> None:
    """The real numbers, rounded to the nearest step of their type."""
    wanted = np.clip(np.maximum(real, low) / out.scale + out.zero_point, 0, 255)
    assert np.abs(steps.numpy() - wanted).max() <= 0.51
