"""Layers with sparse weights: which blocks have kernels, networks of them, and which of stored and unpacked weights is compiled."""

import math
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.compile import compile_program
from backends.graph import read
from backends.lowering import algorithms, choices, name_of, served_on
from backends.store import Store, Trial
from backends.transpose import transpose
from backends.tune import bare
from backends.unpacking import compound, packed_layers, plain
from backends.verify import verify
from backends.workload import Tensor, Workload
from tests.backends.running import TARGET
from tests.backends.test_compile import IMAGES, compiled, program

def layer(inputs: int, outputs: int, side: int, groups: int = 1) -> Workload:
    """A 3x3 convolution."""
    image = [Tensor((1, channels, side, side), "float32", "channels_last") for channels in (inputs, outputs)]
    return Workload(
        "conv2d", (("x", image[0]), ("weight", Tensor((outputs, inputs // groups, 3, 3), "float32")),
                   ("bias", Tensor((outputs,), "float32"))),
        (("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", groups), ("low", -math.inf),
         ("high", math.inf)), image[1])


def stored(dense: Workload, rows: int, columns: int) -> Workload:
    """The workload that unpacks the layer's weights from blocks, of which half are kept."""
    outputs, inputs, *_ = dense["weight"].shape
    count = -(-outputs // rows) * -(-inputs // columns) * 9
    tensors = ("bitmap", Tensor((-(-count // 8),), "uint8")), ("values", Tensor((count // 2, columns, rows), "float32"))
    return Workload("unpack_blocks", tensors, (("shape", dense["weight"].shape),), dense["weight"])


@pytest.mark.parametrize("blocks, groups, serves", [((16, 1), 3, False), ((8, 4), 1, False), ((3, 1), 1, False),
                                                    ((8, 3), 1, True)])
def test_blocks_that_cross_groups_or_vectors_or_end_past_the_inputs_are_left_to_unpacking(blocks, groups, serves):
    workload = layer(30, 60, 9, groups)
    served = [a.serves(compound(workload, stored(workload, *blocks)), TARGET) for a in algorithms("conv2d_unpack_blocks")]
    assert any(served) == serves


@given(rows=st.integers(1, 40), columns=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_transposed_matrix_is_numpys(rows, columns):
    import tvm

    from backends.emit import function, load as read, store

    def body(given, out):
        transpose(rows, columns, TARGET.lanes, lambda row, column, n: read(given, row * columns + column, n),
                  lambda column, row, n, numbers: store(out, numbers, column * rows + row, n))
    tensors = [Tensor((rows, columns), "float32"), Tensor((columns, rows), "float32")]
    module = tvm.compile(tvm.IRModule({"main": function(tensors, body).with_attr("global_symbol", "main")}), TARGET.tvm())
    matrix = np.arange(rows * columns, dtype="float32").reshape(rows, columns)
    out = tvm.runtime.tensor(np.zeros((columns, rows), "float32"))
    module["main"](tvm.runtime.tensor(matrix), out)
    np.testing.assert_array_equal(out.numpy(), matrix.T)


def test_networks_with_sparse_layers_in_floats_and_integers_compile_to_what_they_compute(tmp_path):
    exported = program("conv:16/1 [*=block_sparse-keep0.3] mbconv-expand3:24/2 [expand=magnitude-keep0.2]"
                       " conv:32/1 [*=magnitude-keep0.1] conv:16/1 [*=block_sparse-rows8-keep0.3+int8]"
                       " classifier:5/1 [*=block_sparse-rows4-columns2]")
    library, report, _ = compiled(exported, tmp_path)
    assert report.fallback == 0 and verify(exported, library, IMAGES, TARGET, report.joined).mismatch == ""
    assert sum(bool(op.weights) for op in report.ops) == 5


@pytest.mark.parametrize("packed_us, weights", [(1.0, "packed"), (3.0, "unpacked")])
@pytest.mark.parametrize("method", ["magnitude-keep0.2", "block_sparse-keep0.2"])
def test_the_faster_of_stored_and_unpacked_weights_is_compiled_and_reported(method, packed_us, weights, tmp_path):
    exported = program(f"conv:16/1 [*={method}] classifier:5/1")
    name, joint = next(iter(packed_layers(read(exported, served_on(TARGET))).items()))
    with closing(Store(tmp_path / "kernels.db", TARGET)) as store:
        for measured, us in ((joint.workload, packed_us), (plain(joint.workload), 2.0)):
            algorithm, option = choices(measured, TARGET)[0]
            store.add(bare(measured), [Trial(name_of(algorithm), option, (us,))])
    report = compile_program(exported, TARGET, tmp_path / "model.so", tmp_path / "kernels.db")
    assert [op.weights for op in report.ops if op.weights] == [weights]
    assert report.joined == ((name,) if weights == "packed" else ())
