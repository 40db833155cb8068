"""The geometry of a convolution or pool, and the copy of an image with a border around it."""

from dataclasses import dataclass, replace

from backends.emit import constant, load, loop, scratch, segments, store
from backends.nest import loop_unless_one, nest, shared
from backends.view import View, sides
from backends.workload import CHANNELS_LAST, Tensor, Workload


@dataclass(frozen=True)
class Window:
    """Numbers of one convolution or pool: channels, sides (y, x) of input, kernel and output. `border` are the
    rows above and below and the columns left and right that lie outside the image."""

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
        """The window of a convolution; a dense layer is a 1x1 convolution of images of one pixel."""
        batch, inputs, *size = sides(workload["x"])
        _, outputs, *out = sides(workload.out)
        if len(workload["weight"].shape) == 2:
            return cls(batch, inputs, outputs, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), (1, 1), 1)
        named = {key: tuple(workload[key]) for key in ("stride", "padding", "dilation")}
        return cls(batch, inputs, outputs, tuple(size), tuple(workload["weight"].shape[2:]), **named,
                   out=tuple(out), groups=workload["groups"])

    @property
    def group_inputs(self) -> int:
        """Input channels of one group."""
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.outputs // self.groups

    @property
    def taps(self) -> int:
        """Pixels of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first pixel that the kernel reads to the last."""
        return tuple((self.out[i] - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1 for i in (0, 1))

    @property
    def border(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(above, below), (left, right)."""
        return tuple((self.padding[i], max(0, self.reach[i] - self.size[i] - self.padding[i])) for i in (0, 1))

    @property
    def plain(self) -> bool:
        """Whether each output pixel reads the input pixel at its own place."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    @property
    def columns_merged(self) -> "Window":
        """The same convolution of an image that lies channels last, a kernel's row and its channels taken as channels of one
        column: they lie side by side in memory."""
        return replace(self, inputs=self.inputs * self.kernel[1], kernel=(self.kernel[0], 1))

    def within_border(self) -> "Window":
        """The same window on the image with its border, where nothing is outside."""
        (above, below), (left, right) = self.border
        return replace(self, size=(self.size[0] + above + below, self.size[1] + left + right), padding=(0, 0))

    def flat(self) -> "Window":
        """The window of a plain convolution with all pixels of all images as the columns of one row."""
        row = (1, self.batch * self.size[0] * self.size[1])
        return replace(self, batch=1, size=row, out=row)


def with_border(tensor: Tensor, window: Window, gap: int = 0, spare: int = 0) -> Tensor:
    """What `bordered` gives of images `tensor`: one image with its border (and its gaps as channels), or the tensor itself
    where it needs none."""
    if not spare and not any(side for sides in window.border for side in sides):
        return tensor
    return Tensor((1, window.inputs + gap, *window.within_border().size), tensor.dtype, tensor.layout)


def bordered(x: View, tensor: Tensor, window: Window, fill: float, lanes: int, threads: int, gap: int = 0,
             spare: int = 0) -> View:
    """The kernel's own copy of one image, in the same layout, with a border of `fill` where the kernel reads past it, `gap`
    numbers unused after each pixel's channels (which lie last), and `spare` unused numbers at its end.

    The view's row 0 and column 0 are the border's. Without a border or spare elements the image itself.
    """
    copy = with_border(tensor, window, gap, spare)
    if copy is tensor:
        return x
    (above, _), (left, _) = window.border
    view = View.of(scratch(copy.size + spare, tensor.dtype), copy)
    wide, planes = (window.inputs, 1) if tensor.layout == CHANNELS_LAST else (1, window.inputs)
    with shared(threads) as share:
        _copy_rows(x, view, window.size, wide, (above, left), copy.shape[2:], fill, tensor.dtype, lanes, planes, share)
    return view


def _copy_rows(x: View, to: View, size, wide: int, corner, whole, fill, dtype, lanes, planes: int, share) -> None:
    """Rows of size[1] pixels of `wide` numbers each, on `planes` planes, into the middle of a border of `fill`."""
    (height, width), (above, left), (rows, columns) = size, corner, whole
    for first, count, inside in ((0, above, False), (above, height, True), (above + height, rows - above - height, False)):
        if count:
            with nest({"channels": planes, "rows": count, "columns": 1}, "channels", share) as index:
                c, y = index["channels"], index["rows"]
                begin = to.at(0, first + y, 0, c)
                if not inside:
                    _fill_row(to.buffer, begin, columns * to.column, fill, dtype, lanes)
                    continue
                _fill_row(to.buffer, begin, left * to.column, fill, dtype, lanes)
                _copy_pixels(x, x.at(0, y, 0, c), to, begin + left * to.column, width, wide, lanes)
                _fill_row(to.buffer, begin + (left + width) * to.column, (columns - left - width) * to.column, fill, dtype,
                          lanes)


def _copy_pixels(x: View, begin, to: View, place, width: int, wide: int, lanes: int) -> None:
    """Neighbouring pixels of a row: at once where they lie as densely as in the image."""
    pixels, numbers = (1, width * wide) if to.column == wide else (width, wide)
    with loop_unless_one(pixels) as pixel:
        copy(x.buffer, begin + pixel * wide, to.buffer, place + pixel * to.column, numbers, lanes)


def _fill_row(buffer, begin, size: int, fill, dtype: str, lanes: int) -> None:
    for part in segments(size, lanes):
        with loop(part.count) as tile:
            store(buffer, constant(fill, dtype, part.lanes), begin + part.start + tile * part.lanes, part.lanes)


def copy(source, begin, destination, to, size: int, lanes: int) -> None:
    """Copies `size` elements that lie in a row."""
    for part in segments(size, lanes):
        with loop(part.count) as tile:
            at = part.start + tile * part.lanes
            store(destination, load(source, begin + at, part.lanes), to + at, part.lanes)


def regrouped(x: View, tensor: Tensor, window: Window, chunk: int, fill, lanes: int) -> View:
    """A copy of one image with its border, channels last, in which each group's channels fill whole chunks."""
    (above, below), (left, right) = window.border
    channels = -(-window.group_inputs // chunk) * chunk * window.groups
    height, width = window.size[0] + above + below, window.size[1] + left + right
    copy_tensor = Tensor((1, channels, height, width), tensor.dtype, CHANNELS_LAST)
    view = View.of(scratch(copy_tensor.size, tensor.dtype), copy_tensor)
    _fill_row(view.buffer, 0, copy_tensor.size, fill, tensor.dtype, lanes)
    with loop(window.size[0]) as y, loop(window.size[1]) as column, loop(window.groups) as g:
        source = x.at(0, y, column, g * window.group_inputs)
        to = view.at(0, y + above, column + left, g * (channels // window.groups))
        with loop(window.group_inputs) as c:
            store(view.buffer, load(x.buffer, source + c * x.channel), to + c)
    return view
