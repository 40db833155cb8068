"""Layers whose weights are circulant blocks (Cheng et al., 2015 [63]; Ding et al., CirCNN, 2017, section 3): a block times a
vector is a circular convolution, and so a product of spectra.

Three products: the inputs of every block to their spectrum (a matrix of cosines and sines: at sides up to some hundred no
fast transform is faster), for each frequency the spectra of all blocks times those of the inputs, and back. Spectra of
real numbers are half as long. A complex product is two columns of a real one: (Xr, -Xi) and (Xi, Xr) times (Vr, Vi) are
the real and the imaginary part.
"""

from dataclasses import dataclass
from math import pi

from backends.arithmetic import FLOAT
from backends.channels import blocks_of
from backends.emit import cast, clamp, constant, load, loop, scratch, store
from backends.nest import loop_unless_one, shared
from backends.packing import arranged
from backends.product import product, product_options, threads_for
from backends.view import View, sides
from backends.window import Window
from backends.workload import CHANNELS_LAST, Lowering, Packed, Tensor

PARTS = 2  # real and imaginary
NAMES = ("forth", "spectra", "back")


def unpack_blocks(workload) -> Lowering:
    """Turns the first columns to whole blocks."""
    (_, across, block), (outputs, inputs) = workload["values"].shape, workload["shape"][:2]

    def body(buffers, sink):
        with loop(outputs) as o, loop(inputs) as i:
            turned = (o % block - i % block + block) % block
            value = load(buffers["values"], (o // block * across + i // block) * block + turned)
            store(sink.out.buffer, value, o * inputs + i)
    return Lowering(body)


def serves_circulant(workload) -> bool:
    """Dense layers and 1x1 convolutions of float32 weights, not grouped, whole blocks, pixels one after the other."""
    x, window, values = workload["x"], Window.of(workload), workload["weight.values"]
    whole = (window.outputs, window.inputs) == (values.shape[0] * values.shape[2], values.shape[1] * values.shape[2])
    lies = x.layout == CHANNELS_LAST or x.memory[2:] in ((), (1, 1))
    return values.dtype == "float32" and whole and lies and window.plain and window.groups == 1


@dataclass(frozen=True)
class _Blocks:
    """Blocks `down` x `across` of side `block`; `pixels` inputs."""

    pixels: int
    down: int
    across: int
    block: int

    @classmethod
    def of(cls, workload) -> "_Blocks":
        batch, _, height, width = sides(workload["x"])
        return cls(batch * height * width, *workload["weight.values"].shape)

    @property
    def frequencies(self) -> int:
        """Those of a real signal: the others are their conjugates."""
        return self.block // 2 + 1

    def windows(self) -> tuple[Window, Window, Window]:
        """Forth: the numbers of a block to (frequency, column, part); the spectra; back: (frequency, part) to numbers."""
        spectrum = PARTS * self.frequencies
        return (self._window(self.block, PARTS * spectrum, self.across, 1),
                self._window(PARTS * self.across * self.frequencies, self.down * self.frequencies, PARTS, self.frequencies),
                self._window(spectrum, self.block, self.down, 1))

    def _window(self, inputs: int, outputs: int, columns: int, groups: int) -> Window:
        size = (self.pixels, columns)
        return Window(1, inputs, outputs, size, (1, 1), (1, 1), (0, 0), (1, 1), size, groups)


def circulant(workload, target) -> Lowering:
    """The layer of (x, values, bias)."""
    blocks = _Blocks.of(workload)
    windows = blocks.windows()
    options = [product_options(window, target, FLOAT, 1)[0] for window in windows]
    packed = {name: _packed(workload, blocks, window, target.lanes, option, number)
              for name, window, option, number in zip(NAMES, windows, options, (_forth, _spectrum, _back))}

    def body(buffers, sink):
        forth, spectra, back = windows
        inputs = scratch(blocks.pixels * forth.outputs * blocks.across, "float32")
        products = scratch(blocks.pixels * spectra.outputs * PARTS, "float32")
        views = (View(buffers["x"], 0, 0, workload["x"].shape[1], blocks.block, 1),
                 View(inputs, 0, 0, spectra.inputs * PARTS, PARTS * blocks.across, 1),
                 View(products, 0, 0, spectra.outputs * PARTS, 1, blocks.down))
        finishers = (_to_inputs(inputs, blocks, forth), _to_products(products, blocks),
                     _to_sink(workload, buffers, sink, blocks))
        for name, window, option, view, finish in zip(NAMES, windows, options, views, finishers):
            _product(window, target, option, view, buffers[name], packed[name].tensor.size, finish)
    return Lowering(body, packed)


def _product(window: Window, target, option: dict, view: View, weights, size: int, finish) -> None:
    """Every frequency is a group; its inputs lie (column, part) apart."""
    with shared(threads_for(window, target, FLOAT)) as share, loop_unless_one(window.groups) as g:
        image = view.from_channel(g * window.group_inputs * PARTS) if window.groups > 1 else view
        product(window, FLOAT, target.lanes, share, option, image, weights, g * (size // window.groups),
                g * window.group_outputs, finish)


def _to_inputs(buffer, blocks: _Blocks, window: Window):
    """Spectra of the inputs: [pixels, (frequency, column, part), blocks across]."""
    def finish(sums, y, x, c, lanes):
        store(buffer, sums, (y * window.outputs + c) * blocks.across + x, lanes, blocks.across)
    return finish


def _to_products(buffer, blocks: _Blocks):
    """Spectra of the results: [pixels, frequency, part, blocks down]; a block's channel is (frequency, block)."""
    def finish(sums, y, x, c, lanes):
        frequency, block = c // blocks.down, c % blocks.down
        store(buffer, sums, ((y * blocks.frequencies + frequency) * PARTS + x) * blocks.down + block, lanes)
    return finish


def _to_sink(workload, buffers, sink, blocks: _Blocks):
    """Columns are blocks of channels, rows are pixels."""
    results = sink.flat()

    def finish(sums, y, x, c, lanes):
        channel = x * blocks.block + c
        value = clamp(sums + load(buffers["bias"], channel, lanes), workload["low"], workload["high"], "float32", lanes)
        results.put(value, 0, 0, y, channel, lanes)
    return finish


def _packed(workload, blocks: _Blocks, window: Window, lanes: int, option: dict, number) -> Packed:
    matrix = Tensor((window.outputs, window.group_inputs), "float32")
    return arranged(matrix, {"weight.values": workload["weight.values"]}, "float32",
                    blocks_of(window.group_outputs, lanes, option["vectors"]), window.groups, 1,
                    lambda stored, o, tap, c: cast(number(blocks, stored, o, c), "float32"))


def _forth(blocks: _Blocks, stored, output, place):
    """What input `place` of a block adds to output (frequency, column, part): (Xr, -Xi) and (Xi, Xr)."""
    from tvm import tirx

    frequency, column, part = output // (2 * PARTS), output // PARTS % 2, output % PARTS
    cosine, sine = _wave(blocks, frequency, place)
    return tirx.Select(column == part, cosine, tirx.Select(part == 1, sine, -sine))


def _back(blocks: _Blocks, stored, place, spectrum):
    """What (frequency, part) adds to result `place` of a block; a frequency that has a conjugate counts twice."""
    from tvm import tirx

    frequency, part = spectrum // PARTS, spectrum % PARTS
    cosine, sine = _wave(blocks, frequency, place)
    single = tirx.any(frequency == 0, 2 * frequency == blocks.block)
    share = tirx.Select(single, constant(1 / blocks.block, "float64"), constant(2 / blocks.block, "float64"))
    return share * tirx.Select(part == 0, cosine, -sine)


def _spectrum(blocks: _Blocks, stored, output, inputs):
    """Vr or Vi of block (down, across) at a frequency; outputs are (frequency, down), inputs (part, across)."""
    from tvm import tirx

    total = scratch(1, "float64", registers=True)
    store(total, constant(0.0, "float64"), 0)
    frequency, down = output // blocks.down, output % blocks.down
    part, across = inputs // blocks.across, inputs % blocks.across
    with loop(blocks.block) as t:
        cosine, sine = _wave(blocks, frequency, t)
        value = cast(load(stored, (down * blocks.across + across) * blocks.block + t), "float64")
        store(total, load(total, 0) + value * tirx.Select(part == 0, cosine, -sine), 0)
    return load(total, 0)


def _wave(blocks: _Blocks, frequency, place):
    """Cosine and sine of the angle that a frequency has at a place."""
    from tvm import tirx

    angle = cast(frequency * place % blocks.block, "float64") * constant(2 * pi / blocks.block, "float64")
    return tirx.cos(angle), tirx.sin(angle)
