"""Products of packed signs (`binary_conv2d`, `binary_linear`): n - 2 popcount(x xor weight).

Where the kernel reaches past the image it reads words of zeros, whose differences from the weights are counted like
any others. What a result must be corrected by depends on which taps lie outside, so on few kinds of rows and columns:
`counts` holds, for each kind of position and output channel, the products inside plus twice the set bits of the
weights outside.
"""

from dataclasses import dataclass
from math import ceil

from backends.arithmetic import BITS
from backends.convolution import Ending, convolution
from backends.emit import cast, clamp, constant, function, load, loop, scratch, store
from backends.window import Window
from backends.workload import Lowering, Packed, Tensor


@dataclass(frozen=True)
class Kinds:
    """Positions along one side by the taps that lie inside: each of the first `before` is a kind of its own, those up
    to `after` read the whole kernel, and each of the rest is a kind again; `count` kinds in all."""

    before: int
    after: int
    count: int

    @classmethod
    def of(cls, window: Window, side: int) -> "Kinds":
        """side: 0 for rows, 1 for columns."""
        out = range(window.out[side])
        whole = [at for at in out if all(_inside(window, side, at, tap) for tap in range(window.kernel[side]))]
        before, after = (whole[0], whole[-1] + 1) if whole else (len(out), len(out))
        return cls(before, after, before + bool(whole) + len(out) - after)

    def kind(self, at):
        """The kind of position `at`."""
        from tvm import tirx

        if self.count == 1:
            return 0
        return tirx.min(at, self.before) + tirx.max(at - (self.after - 1), 0)

    def position(self, kind):
        """The first position of a kind."""
        from tvm import tirx

        return kind + tirx.max(tirx.min(kind - self.before, 1), 0) * (self.after - 1 - self.before)


def _inside(window: Window, side: int, at: int, tap: int) -> bool:
    return 0 <= _reads(window, side, at, tap) < window.size[side]


def _reads(window: Window, side: int, at, tap):
    """The input position that a tap of the result at `at` reads."""
    return at * window.stride[side] + tap * window.dilation[side] - window.padding[side]


def binary_convolution(workload, target, option: dict) -> Lowering:
    """The product of (x, weight, scale, bias), all bits of `channels` channels."""
    window = Window.of(workload)
    rows, columns = Kinds.of(window, 0), Kinds.of(window, 1)

    def finish(buffers, sums, y, x, c, lanes):
        kind = rows.kind(y) * columns.count + columns.kind(x)
        inside = load(buffers["counts"], kind * window.outputs + c, lanes)
        total = cast(inside - sums - sums, "float32", lanes)
        total = total * load(buffers["scale"], c, lanes) + load(buffers["bias"], c, lanes)
        return clamp(total, workload["low"], workload["high"], "float32", lanes)
    return convolution(workload, target, option, BITS, Ending(finish, {"counts": _counts(workload, window, rows, columns)}))


def _counts(workload, window: Window, rows: Kinds, columns: Kinds) -> Packed:
    """int32 [kinds of rows, kinds of columns, outputs]."""
    from tvm import tirx

    weight, width = workload["weight"], workload["channels"] // window.groups
    tensor = Tensor((rows.count, columns.count, window.outputs), "int32")

    def body(stored, counts):
        total = scratch(1, "int32", registers=True)
        with loop(rows.count) as row, loop(columns.count) as column, loop(window.outputs) as o:
            store(total, constant(0, "int32"), 0)
            with loop(window.kernel[0]) as r, loop(window.kernel[1]) as s:
                y, x = _reads(window, 0, rows.position(row), r), _reads(window, 1, columns.position(column), s)
                inside = tirx.all(y >= 0, y < window.size[0], x >= 0, x < window.size[1])
                bits = _set_bits(stored, (o * weight.shape[1] * window.kernel[0] + r) * window.kernel[1] + s, window)
                store(total, load(total, 0) + tirx.Select(inside, constant(width, "int32"), 2 * bits), 0)
            store(counts, load(total, 0), (row * columns.count + column) * window.outputs + o)
    return Packed(function([weight, tensor], body), tensor, ("weight",))


def _set_bits(stored, first, window: Window):
    """The number of set bits of one tap's weights, whose bytes lie a kernel apart."""
    from tvm import tirx

    total = scratch(1, "int32", registers=True)
    store(total, constant(0, "int32"), 0)
    with loop(window.group_inputs) as k:
        store(total, load(total, 0) + tirx.popcount(cast(load(stored, first + k * window.taps), "int32")), 0)
    return load(total, 0)


def binary_inputs(workload, rng) -> dict:
    """Random bits, none set past the last channel; scales and biases of any sign."""
    import numpy as np

    channels, groups = workload["channels"], dict(workload.arguments).get("groups", 1)

    def bits(shape, width):
        values = rng.integers(0, 256, shape, np.uint8)
        values[:, ceil(width / 8) - 1] &= 255 >> (-width % 8)
        return values
    outputs = workload["scale"].shape
    return {"x": bits(workload["x"].shape, channels), "weight": bits(workload["weight"].shape, channels // groups),
            "scale": rng.standard_normal(outputs, np.float32), "bias": rng.standard_normal(outputs, np.float32)}
