"""3x3 convolution by minimal filtering (Winograd, 1980; Lavin and Gray, 2016): F(m x m, 3 x 3) takes (m + 2)^2
products for m^2 results where the direct sum takes 9 m^2.

Y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A. Each of the (m + 2)^2 places is a product of matrices
[tiles, inputs] x [inputs, outputs]. A strip of tiles is transformed, multiplied and transformed back by one thread
while it lies in the cache; weights are transformed when a network is loaded.
"""

from dataclasses import dataclass, replace

from backends.arithmetic import FLOAT
from backends.channels import blocks_of, vectors_of
from backends.convolution import last_step
from backends.emit import bind, constant, function, load, loop, scratch, store, when
from backends.nest import loop_unless_one
from backends.product import product, product_options, work
from backends.view import View
from backends.window import Window, bordered
from backends.workload import CHANNELS_LAST, Lowering, Packed, Tensor

# Multiply-adds below which the transforms cost more than they save.
LEAST_WORK = 100_000
# The share of tiles that may be computed twice so that strips have one size.
MOST_TWICE = 0.03
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transform:
    """F(m, 3) at the points 0, 1, -1 (2, -2) and infinity. Inputs and outputs are transformed by two matrices each,
    applied one after the other, which share the sums and differences of the points' pairs."""

    inputs: tuple[Matrix, Matrix]
    weights: Matrix
    outputs: tuple[Matrix, Matrix]


def _pairs(count: int) -> Matrix:
    """(x0, x1 + x2, x1 - x2, ..., last): sums and differences of neighbours."""
    size = 2 * count + 2
    rows = [[0.0] * size for _ in range(size)]
    rows[0][0] = rows[-1][-1] = 1.0
    for i in range(1, size - 1, 2):
        rows[i][i] = rows[i][i + 1] = rows[i + 1][i] = 1.0
        rows[i + 1][i + 1] = -1.0
    return tuple(map(tuple, rows))


TRANSFORMS = {
    2: Transform((((1, 0, -1, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 1, 0, -1)), _pairs(1)),
                 ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
                 (_pairs(1), ((1, 1, 0, 0), (0, 0, 1, -1)))),
    4: Transform((((4, 0, -5, 0, 1, 0), (0, 0, -4, 0, 1, 0), (0, -4, 0, 1, 0, 0), (0, 0, -1, 0, 1, 0),
                   (0, -2, 0, 2, 0, 0), (0, 4, 0, -5, 0, 1)), _pairs(2)),
                 ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
                  (1 / 24, -1 / 12, 1 / 6), (0, 0, 1)),
                 (_pairs(2), ((1, 1, 0, 1, 0, 0), (0, 0, 1, 0, 2, 0), (0, 1, 0, 4, 0, 0), (0, 0, 1, 0, 8, 1)))),
}


def applied(matrix: Matrix, values: list, lanes: int) -> list:
    """Each row's combination of the values."""
    return [_combined(row, values, lanes) for row in matrix]


def _combined(row: tuple[float, ...], values: list, lanes: int):
    total = None
    for factor, value in sorted(zip(row, values), key=lambda pair: pair[0] != 1):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else value * constant(factor, "float32", lanes)
        elif abs(factor) == 1:
            total = total + value if factor > 0 else total - value
        else:
            total = total + value * constant(factor, "float32", lanes)
    return bind(total)


@dataclass(frozen=True)
class _Plan:
    """Results a side of a tile `m`, tiles (rows, columns) of the image, tiles of a `strip`, which follow each other row by row.

    The last strip begins earlier where strips do not divide the tiles: what overlaps is computed twice with one result."""

    m: int
    tiles: tuple[int, int]
    strip: int

    @classmethod
    def of(cls, workload, m: int, strip: int = 1) -> "_Plan":
        height, width = workload.out.shape[2:]
        return cls(m, (-(-height // m), -(-width // m)), strip)

    @property
    def size(self) -> int:
        """Inputs a side."""
        return self.m + 2

    @property
    def places(self) -> int:
        return self.size**2

    @property
    def count(self) -> int:
        """Tiles of the image."""
        return self.tiles[0] * self.tiles[1]

    @property
    def strips(self) -> int:
        return -(-self.count // self.strip)

    def begin(self, strip):
        """The first tile of a strip."""
        from tvm import tirx

        return strip * self.strip if self.count % self.strip == 0 else tirx.min(strip * self.strip, self.count - self.strip)

    def corner(self, tile):
        """The first result (row, column) of a tile."""
        return tile // self.tiles[1] * self.m, tile % self.tiles[1] * self.m


def winograd_options(workload, target) -> list[dict]:
    """Both tile sizes, strips of two sizes, each with its best tiling."""
    options = []
    for m in TRANSFORMS:
        window, count = Window.of(workload), _Plan.of(workload, m).count
        for strip in _strip_sizes(count, target.threads, target.registers // 2):
            inner = product_options(_inner(window, strip), target, FLOAT, 1)[0]
            options.append({"m": m, "strip": strip, **inner})
    return options


def _strip_sizes(tiles: int, threads: int, least: int) -> list[int]:
    """The smallest strip of at least so many tiles, which fill a product's tile, and one of twice as many: each thread has as
    many strips, and few tiles are computed twice. With fewer tiles than that a strip to a thread."""
    strips = {-(-tiles // count): count for count in reversed(range(threads, tiles + 1, threads))}
    fitting = sorted(size for size, count in strips.items() if size >= least and size * count <= (1 + MOST_TWICE) * tiles)
    least, *more = fitting or [-(-tiles // threads)]
    return [least, *[size for size in more if size >= 2 * least][:1]]


def _inner(window: Window, tiles: int) -> Window:
    """The product of one place of a strip, as a 1x1 convolution of a row of tiles."""
    row, one = (1, tiles), (1, 1)
    return Window(1, window.inputs, window.outputs, row, one, one, (0, 0), one, row, 1)


def winograd(workload, target, option: dict) -> Lowering:
    """The kernel of (x, weight, bias)."""
    window, plan = Window.of(workload), _Plan.of(workload, option["m"], option["strip"])
    inner, lanes = _inner(window, plan.strip), target.lanes
    packed = _packed(workload["weight"], option, lanes)
    threads = target.threads_for(workload.out.size * window.inputs * 2 // target.lanes)
    covered = replace(window, out=(plan.tiles[0] * plan.m, plan.tiles[1] * plan.m))

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        bias = [buffers[name] for name, _ in workload.tensors[2:]]

        def finish(total, n, y, x, c, lanes):
            with when(y < window.out[0] if window.out[0] % plan.m else True):
                with when(x < window.out[1] if window.out[1] % plan.m else True):
                    sink.put(last_step(workload, total, [load(b, c, lanes) for b in bias], lanes), n, y, x, c, lanes)
        with loop_unless_one(window.batch) as n:
            image = bordered(x.of_image(n), workload["x"], covered, 0.0, lanes, threads)
            with loop(plan.strips, threads > 1) as strip:
                given = scratch(plan.places * plan.strip * window.inputs, "float32")
                made = scratch(plan.places * plan.strip * window.outputs, "float32")
                first = bind(plan.begin(strip))
                _transform_inputs(plan, window, image, first, given, lanes)
                with loop(plan.places) as place:
                    view = View(given, place * plan.strip * window.inputs, 0, 0, window.inputs, 1)

                    def keep(sums, y, x, c, lanes):
                        store(made, sums, (place * plan.strip + x) * window.outputs + c, lanes)
                    base = place * (packed.tensor.size // plan.places)
                    product(inner, FLOAT, lanes, None, option, view, buffers["weight"], base, 0, keep)
                _transform_outputs(plan, window, made, first, n, finish, lanes)
    return Lowering(body, {"weight": packed})


def _transform_inputs(plan: _Plan, window: Window, image: View, begin, given, lanes: int) -> None:
    first, second = TRANSFORMS[plan.m].inputs
    for c, width in _channel_loops(window.inputs, lanes):
        with loop(plan.strip) as tile, c as channel:
            row, column = plan.corner(begin + tile)
            corner = bind(image.at(0, row, column, channel))
            half = scratch(plan.places * width, "float32", registers=True)
            for j in range(plan.size):
                values = [bind(load(image.buffer, corner + i * image.row + j * image.column, width, image.channel))
                          for i in range(plan.size)]
                for i, value in enumerate(applied(second, applied(first, values, width), width)):
                    store(half, value, (i * plan.size + j) * width, width)
            for i in range(plan.size):
                values = [load(half, (i * plan.size + j) * width, width) for j in range(plan.size)]
                for j, value in enumerate(applied(second, applied(first, values, width), width)):
                    to = ((i * plan.size + j) * plan.strip + tile) * window.inputs + channel
                    store(given, value, to, width)


def _transform_outputs(plan: _Plan, window: Window, made, begin, n, finish, lanes: int) -> None:
    first, second = TRANSFORMS[plan.m].outputs
    for c, width in _channel_loops(window.outputs, lanes):
        with loop(plan.strip) as tile, c as channel:
            row, column = plan.corner(begin + tile)
            half = scratch(plan.m * plan.size * width, "float32", registers=True)
            for j in range(plan.size):
                values = [bind(load(made, ((i * plan.size + j) * plan.strip + tile) * window.outputs + channel, width))
                          for i in range(plan.size)]
                for i, value in enumerate(applied(second, applied(first, values, width), width)):
                    store(half, value, (i * plan.size + j) * width, width)
            for i in range(plan.m):
                values = [load(half, (i * plan.size + j) * width, width) for j in range(plan.size)]
                for j, value in enumerate(applied(second, applied(first, values, width), width)):
                    finish(value, n, row + i, column + j, channel, width)


def _channel_loops(channels: int, lanes: int):
    """(a loop over first channels, lanes) for full vectors, then for the rest."""
    full = channels // lanes
    if full:
        yield _ChannelLoop(0, full, lanes), lanes
    for vector in vectors_of(channels, lanes)[full:]:
        yield _ChannelLoop(vector.start, 1, vector.lanes), vector.lanes


class _ChannelLoop:
    def __init__(self, first: int, count: int, lanes: int):
        self._first, self._lanes, self._loop = first, lanes, loop_unless_one(count)

    def __enter__(self):
        return self._first + self._loop.__enter__() * self._lanes

    def __exit__(self, *exception):
        return self._loop.__exit__(*exception)


def _packed(weight: Tensor, option: dict, lanes: int) -> Packed:
    """[outputs, inputs, 3, 3] as G g G^T: [place, blocks, inputs, block width]."""
    outputs, inputs = weight.shape[:2]
    matrix, blocks = TRANSFORMS[option["m"]].weights, blocks_of(outputs, lanes, option["vectors"])
    size = len(matrix)
    rows = sum(block.count * block.width for block in blocks) * inputs
    tensor = Tensor((size * size * rows,), "float32")

    def body(stored, packed):
        for block in blocks:
            place = 0
            for vector in block.vectors:
                with loop(block.count) as number, loop(inputs) as c, loop(vector.lanes) as lane:
                    output = block.first + number * block.width + vector.start + lane
                    taps = [bind(load(stored, (output * inputs + c) * 9 + tap)) for tap in range(9)]
                    columns = [applied(matrix, taps[s::3], 1) for s in range(3)]
                    at = (block.base + number * block.width) * inputs + c * block.width + place + lane
                    for i in range(size):
                        for j, value in enumerate(applied(matrix, [column[i] for column in columns], 1)):
                            store(packed, value, (i * size + j) * rows + at)
                place += vector.lanes
    return Packed(function([weight, tensor], body), tensor)


def serves_winograd(workload) -> bool:
    """3x3, stride 1, ungrouped, on images that lie channels last and have at least one full tile, and large enough."""
    window = Window.of(workload)
    plain = window.stride == window.dilation == (1, 1) and window.groups == 1
    return (workload["x"].dtype == "float32" and workload["x"].layout == CHANNELS_LAST and plain
            and window.kernel == (3, 3) and min(window.inputs, window.outputs, *window.out) >= 4
            and work(window) >= LEAST_WORK)
