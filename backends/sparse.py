"""Sparse weights as kernels walk them: compressed rows whose column indices are distances in the image
(Park et al., Faster CNNs with direct sparse convolutions and guided pruning, 2017, section 2.1).

The stored form is a bitmap over weights, or over blocks of them, and the kept values in the same order. Kernels take the
values as they are stored, and two tensors that are made from the bitmap when a network is loaded: `starts`, at which
kept block each row of blocks begins, and `offsets`, how far from the first pixel of a window the input lies that a kept
block multiplies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from backends.emit import bind, cast, constant, function, load, loop, loop_between, scratch, store, when
from backends.window import Window
from backends.workload import Packed, Tensor

BITMAP, VALUES = "weight.bitmap", "weight.values"


@dataclass(frozen=True)
class Pattern:
    """Blocks of `rows` outputs by `columns` inputs, of which `kept` are stored; a row of blocks is read in `chunks`, each of
    `chunk` blocks of input channels (all pixels of the kernel)."""

    window: Window
    rows: int
    columns: int
    kept: int
    chunk: int

    @classmethod
    def of(cls, workload, window: Window, chunk: int | None = None) -> "Pattern":
        """The pattern of a layer's stored weights; single weights are blocks of one."""
        kept, columns, rows = workload[VALUES].shape if len(workload[VALUES].shape) == 3 else (workload[VALUES].size, 1, 1)
        return cls(window, rows, columns, kept, chunk or ceil(window.group_inputs / columns))

    @property
    def across(self) -> int:
        """Blocks along the outputs."""
        return ceil(self.window.outputs / self.rows)

    @property
    def along(self) -> int:
        """Blocks along the inputs of a group."""
        return ceil(self.window.group_inputs / self.columns)

    @property
    def chunks(self) -> int:
        """Parts in which a row of blocks is read."""
        return ceil(self.along / self.chunk)

    @property
    def whole(self) -> bool:
        """Whether each block lies in one group of outputs, and none reaches past the last input channel."""
        grouped = self.window.groups == 1 or self.window.group_outputs % self.rows == 0
        return grouped and self.window.group_inputs % self.columns == 0

    @property
    def density(self) -> float:
        """The share of blocks that is kept."""
        return self.kept / (self.across * self.along * self.window.taps)


def packed_pattern(bitmap: Tensor, pattern: Pattern, distance: Callable) -> dict[str, Packed]:
    """`starts` int32 [across * chunks + 1] and `offsets` [kept] of a pattern, uint16 in a dense layer of so few inputs, else
    int32; `distance(channel, row, column)`: how far an input channel lies away at a pixel of the kernel, in elements."""
    starts = Tensor((pattern.across * pattern.chunks + 1,), "int32")
    near = pattern.window.size == (1, 1) and pattern.window.inputs < 2**16
    offsets = Tensor((pattern.kept,), "uint16" if near else "int32")

    def count(bits, out):
        def begin(row, seen):
            store(out, seen, row)
        seen = _walk(bits, pattern, begin, lambda *_: None)
        store(out, seen, starts.size - 1)

    def place(bits, out):
        def keep(channel, tap, seen):
            away = distance(channel, tap // pattern.window.kernel[1], tap % pattern.window.kernel[1])
            store(out, cast(away, offsets.dtype), seen)
        _walk(bits, pattern, lambda *_: None, keep)
    return {"starts": Packed(function([bitmap, starts], count), starts, (BITMAP,)),
            "offsets": Packed(function([bitmap, offsets], place), offsets, (BITMAP,))}


def listed(starts, row) -> tuple:
    """The first kept block of a row (or chunk of one), and the one after its last.

    They are computed in front of the loop over them: TVM 0.27 forgets the bounds of a loop when it moves the loop around it
    to begin at zero, as those of threads do.
    """
    return bind(load(starts, row)), bind(load(starts, row + 1))


def _walk(bits, pattern: Pattern, begin: Callable, keep: Callable):
    """Calls `begin(row, kept blocks so far)` at each chunk of a row and `keep(first channel, tap, kept so far)` at each kept
    block; gives their number."""
    window, seen = pattern.window, scratch(1, "int32", registers=True)
    store(seen, constant(0, "int32"), 0)
    with loop(pattern.across) as o, loop(pattern.chunks) as chunk:
        begin(o * pattern.chunks + chunk, load(seen, 0))
        group = bind(o * pattern.rows // window.group_outputs * window.group_inputs)
        end = bind(_least(pattern.along, (chunk + 1) * pattern.chunk))
        with loop_between(chunk * pattern.chunk, end) as c, loop(window.taps) as tap:
            bit = bind((o * pattern.along + c) * window.taps + tap)
            with when((cast(load(bits, bit >> 3), "int32") >> (bit & 7)) & 1 == 1):
                keep(group + c * pattern.columns, tap, load(seen, 0))
                store(seen, load(seen, 0) + 1, 0)
    return load(seen, 0)


def _least(a, b):
    from tvm import tirx

    return tirx.min(a, b)
