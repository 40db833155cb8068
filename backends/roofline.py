"""What a machine can do at most: the roofline of Williams, Waterman and Patterson (2009), with one bandwidth for
each level of the memory, as in the cache-aware roofline of Ilic, Pratas and Sousa (2014).

Both are measured with kernels of our own on the target's threads: a product that stays in registers, and
copies of arrays of growing size. The bandwidth that bounds a kernel is that of a copy as large as its tensors.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass
from math import prod

from backends.cores import apart
from backends.emit import constant, function, load, loop, scratch, store
from backends.workload import Tensor, Workload

SIZES = tuple(2**power for power in range(14, 27, 2))
ROUNDS, REPEATS = 20_000, 5


@dataclass(frozen=True)
class Roofline:
    """`peak_gflops`: float32 multiply-adds count two; `bandwidths`: (bytes read and written, gigabytes per second) by
    growing size."""

    peak_gflops: float
    bandwidths: tuple[tuple[int, float], ...]

    def bandwidth(self, size: int) -> float:
        """Gigabytes per second for tensors of `size` bytes together."""
        place = bisect_left([known for known, _ in self.bandwidths], size)
        return self.bandwidths[min(place, len(self.bandwidths) - 1)][1]

    def bound_us(self, workload: Workload) -> float:
        """No kernel that sums all products can be faster."""
        return max(self.compute_us(workload), self.memory_us(workload))

    def compute_us(self, workload: Workload) -> float:
        """The arithmetic at peak."""
        return flops(workload) / self.peak_gflops / 1e3

    def memory_us(self, workload: Workload) -> float:
        """Reading every input and writing the result once."""
        return moved_bytes(workload) / self.bandwidth(moved_bytes(workload)) / 1e3

    def text(self) -> str:
        """As JSON."""
        return json.dumps({"peak_gflops": self.peak_gflops, "bandwidths": self.bandwidths})

    @classmethod
    def parse(cls, text: str) -> "Roofline":
        """The inverse of `text`."""
        table = json.loads(text)
        return cls(table["peak_gflops"], tuple((size, rate) for size, rate in table["bandwidths"]))


def flops(workload: Workload) -> int:
    """Multiplications and additions of a convolution or dense layer by its definition (padding included; of signs, which
    are packed, as many as there are), one a result for other ops."""
    if not workload.unpack and "weight" not in dict(workload.tensors):
        return workload.out.size
    named, (_, inputs, *kernel) = dict(workload.arguments), workload["weight"].shape
    if "channels" in named:
        inputs = named["channels"] // named.get("groups", 1)
    return 2 * workload.out.size * inputs * prod(kernel)


def moved_bytes(workload: Workload) -> int:
    """Bytes of all inputs and the result."""
    tensors = [tensor for _, tensor in workload.inputs] + [workload.result]
    return sum(tensor.size * bytes_of(tensor.dtype) for tensor in tensors)


def bytes_of(dtype: str) -> int:
    """Bytes of one number."""
    import numpy as np

    return np.dtype(dtype).itemsize


def measure_roofline(target) -> Roofline:
    """Measures this machine for a target that is compiled for it."""
    import tvm

    functions = {"peak": _peak(target), **{f"copy{size}": _copy(size, target) for size in SIZES}}
    functions = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
    module = tvm.compile(tvm.IRModule(functions), target.tvm())
    lanes, sums = target.lanes, target.registers - 4
    out = _array(target.threads * sums * lanes)
    with apart(target.threads):
        seconds = _least(module, "peak", 1, _array(2 * lanes), out)
        rates = tuple((size, _copied(module, size)) for size in SIZES)
    peak = 2 * target.threads * sums * lanes * ROUNDS / seconds / 1e9
    return Roofline(peak, rates)


def _copied(module, size: int) -> float:
    half = size // 8
    number = max(1, 2**27 // size)
    return size / _least(module, f"copy{size}", number, _array(half), _array(half)) / 1e9


def _array(size: int):
    import numpy as np
    import tvm

    return tvm.runtime.tensor(np.zeros(size, np.float32))


def _least(module, name: str, number: int, *arguments) -> float:
    import tvm

    timer = module.mod.time_evaluator(name, tvm.cpu(), number=number, repeat=REPEATS)
    return min(timer(*arguments).results)


def _peak(target):
    """Multiply-adds of registers: as many independent sums as fit."""
    lanes, sums = target.lanes, target.registers - 4

    def body(x, out):
        with loop(target.threads, target.threads > 1) as thread:
            totals = scratch(sums * lanes, "float32", registers=True)
            for i in range(sums):
                store(totals, constant(0.0, "float32", lanes), i * lanes, lanes)
            factor, term = load(x, 0, lanes), load(x, lanes, lanes)
            with loop(ROUNDS):
                for i in range(sums):
                    store(totals, load(totals, i * lanes, lanes) * factor + term, i * lanes, lanes)
            for i in range(sums):
                store(out, load(totals, i * lanes, lanes), (thread * sums + i) * lanes, lanes)
    return function([Tensor((2 * lanes,), "float32"), Tensor((target.threads * sums * lanes,), "float32")], body)


def _copy(size: int, target):
    """A copy that reads and writes `size` bytes together."""
    count, unrolled = size // 8, 4
    step = target.lanes * unrolled

    def body(x, out):
        with loop(count // step, target.threads > 1) as i:
            for part in range(unrolled):
                at = i * step + part * target.lanes
                store(out, load(x, at, target.lanes), at, target.lanes)
    return function([Tensor((count,), "float32")] * 2, body)
