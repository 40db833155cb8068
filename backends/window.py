"""The inputs of a convolution: its geometry, a padded copy of the image, and its unfolding to columns.

Unfolding (im2col: Chellapilla et al., 2006) turns a convolution into a matrix product; a 1x1
convolution of stride 1 needs none.
"""

from dataclasses import dataclass

from backends.emit import bind, cast, constant, load, loop, scratch, segments, store
from backends.workload import Workload


@dataclass(frozen=True)
class Window:
    """Numbers of one convolution or pool: channels, sides (y, x) of input, kernel and output."""

    batch: int
    inputs: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    out: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, workload: Workload) -> "Window":
        """The window of a convolution workload; a dense layer is a 1x1 convolution of one pixel."""
        if workload["weight"].shape[2:] == ():
            (batch, inputs), one = workload["x"].shape, (1, 1)
            return cls(batch, inputs, workload["weight"].shape[0], one, one, one, (0, 0), one, one, 1)
        (batch, inputs, *size), (outputs, _, *kernel) = workload["x"].shape, workload["weight"].shape
        named = {key: tuple(workload[key]) for key in ("stride", "padding", "dilation")}
        return cls(batch, inputs, outputs, tuple(size), tuple(kernel), **named,
                   out=tuple(workload.out.shape[2:]), groups=workload["groups"])

    @property
    def pixels(self) -> int:
        """Output pixels of one channel."""
        return self.out[0] * self.out[1]

    @property
    def group_inputs(self) -> int:
        """Input channels of one group."""
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.outputs // self.groups

    @property
    def depth(self) -> int:
        """Products summed for one output."""
        return self.group_inputs * self.kernel[0] * self.kernel[1]

    @property
    def padded(self) -> tuple[int, int]:
        """Sides of the padded image."""
        return self.size[0] + 2 * self.padding[0], self.size[1] + 2 * self.padding[1]

    @property
    def plain(self) -> bool:
        """Whether the columns are the image itself."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)


@dataclass(frozen=True)
class Image:
    """A (padded) image in a flat buffer: channel c starts at `start + c * pitch`, rows are `row` long."""

    buffer: object
    start: object
    pitch: int
    row: int


def padded_image(x, window: Window, dtype: str, fill: float, lanes: int, start) -> Image:
    """The image that begins at `start` of the flat buffer x, copied with a border of `fill` where it needs one."""
    height, width = window.size
    if window.padding == (0, 0):
        return Image(x, start, height * width, width)
    rows, row = window.padded
    border = scratch(window.inputs * rows * row, dtype)
    _fill(border, window.inputs * rows * row, fill, dtype, lanes)
    with loop(window.inputs) as c, loop(height) as y:
        to = (c * rows + y + window.padding[0]) * row + window.padding[1]
        copy(x, start + (c * height + y) * width, border, to, width, lanes)
    return Image(border, 0, rows * row, row)


def copy(source, begin, destination, to, size: int, lanes: int, stride: int = 1) -> None:
    """Copies `size` elements, `stride` apart in the source."""
    for part in segments(size, lanes, 1):
        with loop(part.count) as tile:
            at = part.start + tile * part.lanes
            store(destination, load(source, begin + at * stride, part.lanes, stride), to + at, part.lanes)


def columns(image: Image, window: Window, group, dtype: str, lanes: int):
    """[depth, pixels]: row (c, r, s) holds the image as kernel element (r, s) of channel c sees it."""
    rows = scratch(window.depth * window.pixels, dtype)
    (kernel_y, kernel_x), (out_y, out_x) = window.kernel, window.out
    with loop(window.group_inputs) as c, loop(kernel_y) as r, loop(kernel_x) as s, loop(out_y) as y:
        begin = pixel_at(image, window, group * window.group_inputs + c, y, 0, r, s)
        to = ((c * kernel_y + r) * kernel_x + s) * window.pixels + y * out_x
        copy(image.buffer, begin, rows, to, out_x, lanes, window.stride[1])
    return rows


def words(image: Image, window: Window, group, lanes: int):
    """[kernel y, kernel x, channels / 4, pixels] int32: the bytes of four channels of one pixel in a word,
    lowest first; channels past the last are zero."""
    quads = -(-window.group_inputs // 4)
    (kernel_y, kernel_x), (out_y, out_x) = window.kernel, window.out
    packed = scratch(kernel_y * kernel_x * quads * window.pixels, "int32")
    wide, tail = divmod(window.group_inputs, 4)
    for count, first, channels in ((wide, 0, 4), (1 if tail else 0, wide, tail)):
        if count:
            with loop(kernel_y) as r, loop(kernel_x) as s, loop(count) as q, loop(out_y) as y:
                to = ((r * kernel_x + s) * quads + first + q) * window.pixels + y * out_x
                begins = [pixel_at(image, window, group * window.group_inputs + (first + q) * 4 + i, y, 0, r, s)
                          for i in range(channels)]
                _pack_row(image.buffer, begins, packed, to, out_x, lanes, window.stride[1])
    return packed


def pixel_at(image: Image, window: Window, channel, y, x, r, s):
    """Where kernel element (r, s) reads for output pixel (y, x)."""
    row = y * window.stride[0] + r * window.dilation[0]
    return image.start + channel * image.pitch + row * image.row + x * window.stride[1] + s * window.dilation[1]


def pack_bytes(values: list, lanes: int):
    """int32 words from up to four values of uint8 or int8, lowest byte first."""
    word = None
    for i, value in enumerate(values):
        part = cast(cast(value, "uint8", lanes), "int32", lanes) << constant(8 * i, "int32", lanes)
        word = part if word is None else word | part
    return word


def _pack_row(source, begins: list, packed, to, size: int, lanes: int, stride: int) -> None:
    for part in segments(size, lanes, 1):
        with loop(part.count) as tile:
            at = part.start + tile * part.lanes
            values = [load(source, begin + at * stride, part.lanes, stride) for begin in begins]
            store(packed, bind(pack_bytes(values, part.lanes)), to + at, part.lanes)


def _fill(buffer, size: int, value: float, dtype: str, lanes: int) -> None:
    for part in segments(size, lanes, 1):
        with loop(part.count) as tile:
            store(buffer, constant(value, dtype, part.lanes), part.start + tile * part.lanes, part.lanes)
