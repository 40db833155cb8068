"""Dense layers straight from the codes of shared weights: how precise they are, and which have kernels."""

import math

import numpy as np
import pytest

from backends.lowering import algorithms, name_of
from backends.unpacking import compound
from backends.workload import Tensor, Workload
from tests.backends.running import TARGET, failures
from tests.backends.runs import every_option, inputs_of, workload_of
from tests.cases import called, on_packed


def dense(entries: int, length: int, bits: int, inputs: int, outputs: int) -> Workload:
    """The workload of a dense layer computed straight from its codes."""
    shape, segments = (outputs, inputs), -(-inputs // length)
    unpack = Workload("unpack_codebook", (("codes", Tensor((-(-outputs * segments * bits // 8),), "uint8")),
                                          ("table", Tensor((1, entries, length), "float32"))),
                      (("bits", bits), ("shape", shape)), Tensor(shape, "float32"))
    layer = Workload("linear", (("x", Tensor((1, inputs), "float32")), ("weight", Tensor(shape, "float32")),
                                ("bias", Tensor((outputs,), "float32"))),
                     (("low", -math.inf), ("high", math.inf)), Tensor((1, outputs), "float32"))
    return compound(layer, unpack)


@pytest.mark.parametrize("algorithm", algorithms("linear_unpack_codebook"), ids=name_of)
@pytest.mark.parametrize("inputs", ["zeros", "outlier", "tiny", "one sign"])
@pytest.mark.parametrize("table", ["normal", "zeros", "one large", "one sign"])
def test_extreme_inputs_and_tables_keep_the_precision(algorithm, inputs, table):
    rng = np.random.default_rng(0)
    x, values = rng.standard_normal((1, 301)), rng.standard_normal((1, 16, 1))
    x = {"zeros": 0 * x, "outlier": np.where(np.arange(301) == 77, 1e3, x), "tiny": 1e-20 * x, "one sign": np.abs(x)}[inputs]
    values = {"normal": values, "zeros": 0 * values, "one sign": np.abs(values),
              "one large": np.where(np.arange(16)[:, None] == 3, 100, values)}[table]
    x, values, bias = x.astype("float32"), values.astype("float32"), np.zeros(64, "float32")
    codes = rng.integers(0, 16, (64 * 301, 1)) >> np.arange(4) & 1
    stored = {"codes": np.packbits(codes.astype("uint8"), bitorder="little"), "table": values}
    unpack = called("unpack_codebook", 0, stored, {"bits": 4, "shape": [64, 301]})
    one = on_packed("linear", {"x": x, "weight": None, "bias": bias}, {"low": -math.inf, "high": math.inf}, unpack)
    workload = workload_of(one)
    if algorithm.serves(workload, TARGET):
        allowed = 1e-5 * float(np.abs(one.expected).max())
        assert not failures(every_option(algorithm, workload, inputs_of(one), one.expected, TARGET, allowed=allowed))


@pytest.mark.parametrize("entries", [129, 200, 256])
@pytest.mark.parametrize("table, allowed", [("normal", 1e-5), ("one large", 4e-5), ("even steps", 4e-5)])
def test_tables_whose_codes_stand_for_lowest_bytes_keep_the_precision(entries, table, allowed):
    """Even steps of a power of two have lowest bytes that are all alike: there 16 bits are left."""
    rng = np.random.default_rng(1)
    values = {"normal": rng.standard_normal(entries), "even steps": np.arange(entries) / 128 - 1,
              "one large": np.where(np.arange(entries) == 3, 100, rng.standard_normal(entries))}[table]
    x, codes = rng.standard_normal((2, 300)).astype("float32"), rng.integers(0, entries, 64 * 300).astype("uint8")
    stored = {"codes": codes, "table": values.astype("float32").reshape(1, entries, 1)}
    unpack = called("unpack_codebook", 0, stored, {"bits": 8, "shape": [64, 300]})
    one = on_packed("linear", {"x": x, "weight": None, "bias": np.zeros(64, "float32")}, {"low": -math.inf, "high": math.inf}, unpack)
    for algorithm in algorithms("linear_unpack_codebook"):
        if algorithm.serves(workload_of(one), TARGET):
            most = allowed * float(np.abs(one.expected).max())
            assert not failures(every_option(algorithm, workload_of(one), inputs_of(one), one.expected, TARGET, allowed=most))


def test_kernels_of_packed_codes_refuse_what_their_registers_do_not_hold():
    """Layers of fewer outputs than a vector, and product codes of more than 16 entries, are computed on unpacked weights."""
    for entries, length, outputs in ((16, 1, 3), (17, 2, 64)):
        workload = dense(entries, length, 5, 20, outputs)
        assert not [a for a in algorithms("linear_unpack_codebook") if a.serves(workload, TARGET)]
