"""Dense layer straight from codes of a scalar codebook of up to 256 numbers, in fixed point: the table lies in registers as two
planes of bytes, in which AVX-512 VBMI looks up 64 codes at once (Intel SDM, VPERMI2B), and bytes are multiplied by the three bytes
of the inputs, four at a time (VPDPBUSD). Memory gives eight bits a weight instead of 32.

    weight = step_w * (256 w1 + w0 - 2^15), w1 and w0 unsigned;  x = step_x * (256^2 x2 + 256 x1 + x0), signed
    sum = step_w * step_x * 256 * (256^2 sum w1' x2 + 256 sum (w1' x1 + w0 x2) + sum (w1' x0 + w0 x1)), w1' = w1 - 128

Integer sums are exact. Rounding the table moves a weight by 2^-16 of the largest at most. The mean of that over an output's weights,
times the sum of the inputs, is added again (bias correction: Nagel et al., 2019), so that what is left averages out. Rounding the
inputs and leaving out a product costs 2^-22 of the largest of each. Inputs must be finite.
"""

from dataclasses import dataclass
from typing import Any

from backends.codebook import Blocks, Codes, blocks_of_outputs, for_each_block
from backends.convolution import last_step
from backends.dot import has_vnni, vnni
from backends.emit import bind, cast, constant, function, load, loop, scratch, splat, store
from backends.nest import loop_unless_one, shared
from backends.permute import permuted_bytes, permutes_bytes
from backends.view import View
from backends.workload import Lowering, Packed, Tensor

PRIORITY = 1
# Inputs that one instruction multiplies, the outputs of a vector, its codes, and the bytes of an input and of a weight.
INPUTS, LANES, BYTES, PLANES, PLANES_OF_WEIGHTS = 4, 16, 64, 3, 2
# The largest number of each: weights in 16 bits around 2^15, inputs whose bytes are signed.
WEIGHT, INPUT = 2**15 - 1, 127 * 2**16
# Inputs whose two products of bytes, at most 255 * 128 each, cannot pass 32 bits.
MOST = (2**31 - 1) // (2 * 255 * 128 + 128 * 128)


def serves(workload, target) -> bool:
    """Scalar codebooks, one table, a vector of outputs or more, and a target that looks up and multiplies bytes."""
    codes = Codes.of(workload.unpack)
    return (codes.length == codes.tables == 1 and codes.outputs >= LANES and codes.segments <= MOST
            and permutes_bytes(target) and has_vnni(target))


def options(workload, target) -> list[dict]:
    """Vectors of outputs that share the inputs they load."""
    most = Codes.of(workload.unpack).outputs // LANES
    return [{"vectors": vectors} for vectors in (2, 4) if vectors <= most] or [{"vectors": 1}]


def lower(workload, target, option) -> Lowering:
    """The inputs in bytes, then blocks of outputs, each over all inputs, four at a time."""
    codes, vectors, table = Codes.of(workload.unpack), option["vectors"], workload["weight.table"]
    blocks, size = blocks_of_outputs(codes.outputs, vectors * LANES), plane_size(codes)
    threads = target.threads_for(codes.outputs * codes.segments // LANES)

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        with loop_unless_one(workload["x"].shape[0]) as n:
            numbers = _Inputs.of(x.of_image(n), codes.segments)
            scale, whole = bind(numbers.step() * load(buffers["step"], 0)), numbers.sum()
            with shared(threads) as share, for_each_block(blocks, share) as block:
                planes = [[load(buffers["planes"], plane * size + part, BYTES) for part in range(0, size, BYTES)]
                          for plane in range(PLANES_OF_WEIGHTS)]
                sums = _block(planes, numbers, buffers["weight.codes"], vectors, block)
                for v in range(vectors):
                    first = bind(blocks.first(block) + v * LANES)
                    values = [load(buffers[name], first, LANES) for name in workload.parameters]
                    total = _total(sums, v) * splat(scale, LANES) + load(buffers["rest"], first, LANES) * splat(whole, LANES)
                    sink.put(last_step(workload, total, values, LANES), n, 0, 0, first, LANES)
    return Lowering(body, {"weight.codes": _packed_codes(workload["weight.codes"], codes, blocks),
                           "planes": _packed_planes(table, size), "step": _packed_step(table),
                           "rest": _packed_rest(table, workload["weight.codes"], codes)})


def plane_size(codes: Codes) -> int:
    """Entries of a plane: 64, 128 or 256."""
    return max(BYTES, 1 << (codes.entries - 1).bit_length())


def steps_of(inputs: int) -> int:
    """Words of four inputs."""
    return -(-inputs // INPUTS)


@dataclass(frozen=True)
class _Inputs:
    """The inputs of one image: `largest` magnitude, `words` int32 [3, steps] of four bytes each, lowest plane first, and
    `totals` int32 [3], the sums of a plane's bytes."""

    largest: Any
    words: Any
    totals: Any
    steps: int

    @classmethod
    def of(cls, x: View, inputs: int) -> "_Inputs":
        """Rounds the inputs to multiples of the step."""
        from tvm import tirx

        steps = steps_of(inputs)
        largest, totals = scratch(1, "float32", registers=True), scratch(PLANES, "int32", registers=True)
        words = scratch(PLANES * steps, "int32")
        store(largest, constant(0, "float32"), 0)
        with loop(inputs) as c:
            store(largest, tirx.max(load(largest, 0), tirx.abs(load(x.buffer, x.at(0, 0, 0, c)))), 0)
        made = cls(largest, words, totals, steps)
        for plane in range(PLANES):
            store(totals, constant(0, "int32"), plane)
        inverse = bind(constant(1, "float32") / made.step())
        with loop(inputs // INPUTS) as k:
            made._put(x, k, INPUTS, inverse)
        if inputs % INPUTS:
            made._put(x, steps - 1, inputs % INPUTS, inverse)
        return made

    def step(self):
        """What one step stands for; 1 where all inputs are zero."""
        from tvm import tirx

        largest = load(self.largest, 0)
        return bind(tirx.Select(largest > constant(0, "float32"), largest * constant(1 / INPUT, "float32"), constant(1, "float32")))

    def sum(self):
        """The sum of the rounded inputs, float32."""
        totals = [cast(load(self.totals, plane), "float32") * constant(256.0**plane, "float32") for plane in range(PLANES)]
        return bind((totals[0] + totals[1] + totals[2]) * self.step())

    def _put(self, x: View, k, inputs: int, inverse) -> None:
        """Word k of each plane, of so many inputs."""
        from tvm import tirx

        words = [constant(0, "int32")] * PLANES
        for q in range(inputs):
            rest = bind(cast(tirx.nearbyint(load(x.buffer, x.at(0, 0, 0, k * INPUTS + q)) * inverse), "int32"))
            for plane in range(PLANES):
                byte = bind(cast(cast(rest, "int8"), "int32"))
                rest = bind((rest - byte) >> constant(8, "int32"))
                words[plane] = words[plane] | (byte & constant(255, "int32")) << constant(8 * q, "int32")
                store(self.totals, load(self.totals, plane) + byte, plane)
        for plane, word in enumerate(words):
            store(self.words, word, plane * self.steps + k)


def _block(planes: list, numbers: _Inputs, codes, vectors: int, block):
    """The integer sums of a block, int32 [vectors, 3, LANES]: those of the largest products first."""
    from tvm import tirx

    sums = scratch(vectors * PLANES * LANES, "int32", registers=True)
    for v in range(vectors):
        for order in range(PLANES):
            offset = load(numbers.totals, PLANES - 1 - order) * constant(-128, "int32")
            store(sums, splat(offset, LANES), (v * PLANES + order) * LANES, LANES)
    base = bind(block * numbers.steps * vectors * BYTES)
    with loop(numbers.steps) as k:
        x = [splat(bind(load(numbers.words, plane * numbers.steps + k)), LANES) for plane in range(PLANES)]
        for v in range(vectors):
            code = bind(load(codes, base + (k * vectors + v) * BYTES, BYTES))
            weights = [bind(tirx.reinterpret(f"int32x{LANES}", permuted_bytes(plane, code))) for plane in planes]
            for order in range(PLANES):
                at = (v * PLANES + order) * LANES
                total = load(sums, at, LANES)
                for part in range(min(order + 1, PLANES_OF_WEIGHTS)):
                    total = vnni(total, weights[PLANES_OF_WEIGHTS - 1 - part], x[PLANES - 1 - order + part], LANES)
                store(sums, total, at, LANES)
    return sums


def _total(sums, v: int):
    """256 times (256^2 times the first sums, 256 times the second, and the third) as floats."""
    total = None
    for order in range(PLANES):
        part = cast(load(sums, (v * PLANES + order) * LANES, LANES), "float32", LANES)
        part = part * constant(float(256 ** (3 - order)), "float32", LANES)
        total = part if total is None else total + part
    return total


def _packed_codes(stored: Tensor, codes: Codes, blocks: Blocks) -> Packed:
    """Bytes [blocks, steps, outputs of a block, 4 inputs]."""
    from tvm import tirx

    steps = steps_of(codes.segments)
    tensor = Tensor((blocks.count * steps * blocks.width * INPUTS,), "int8")

    def body(source, packed):
        with loop(blocks.count) as block, loop(steps) as k, loop(blocks.width) as place, loop(INPUTS) as q:
            code = codes.read(source, blocks.first(block) + place, tirx.min(k * INPUTS + q, codes.segments - 1), 0)
            store(packed, cast(code, "int8"), ((block * steps + k) * blocks.width + place) * INPUTS + q)
    return Packed(function([stored, tensor], body), tensor)


def _packed_step(table: Tensor) -> Packed:
    """What one step of the weights stands for, float32 [1]."""
    tensor = Tensor((1,), "float32")
    return Packed(function([table, tensor], lambda source, packed: _write_step(source, table.size, packed)), tensor, ("weight.table",))


def _write_step(source, entries: int, step) -> None:
    """The largest magnitude over the largest number; 1 where the table is all zeros."""
    from tvm import tirx

    store(step, constant(0, "float32"), 0)
    with loop(entries) as entry:
        store(step, tirx.max(load(step, 0), tirx.abs(load(source, entry)) * constant(1 / WEIGHT, "float32")), 0)
    store(step, tirx.Select(load(step, 0) > constant(0, "float32"), load(step, 0), constant(1, "float32")), 0)


def _rounded(weight, step):
    """The nearest multiple of the step, in steps."""
    from tvm import tirx

    return tirx.min(tirx.nearbyint(weight / load(step, 0)), constant(WEIGHT, "float32"))


def _packed_rest(table: Tensor, stored: Tensor, codes: Codes) -> Packed:
    """What rounding takes from an output's weights on average, float32 [outputs]."""
    tensor = Tensor((codes.outputs,), "float32")

    def body(numbers, source, packed):
        step = scratch(1, "float32", registers=True)
        _write_step(numbers, table.size, step)
        with loop(codes.outputs) as output:
            store(packed, constant(0, "float32"), output)
            with loop(codes.segments) as segment:
                weight = bind(load(numbers, codes.read(source, output, segment, 0)))
                lost = weight - _rounded(weight, step) * load(step, 0)
                store(packed, load(packed, output) + lost * constant(1 / codes.segments, "float32"), output)
    return Packed(function([table, stored, tensor], body), tensor, ("weight.table", "weight.codes"))


def _packed_planes(table: Tensor, size: int) -> Packed:
    """The entries' two bytes, lowest first: planes of `size`."""
    tensor = Tensor((PLANES_OF_WEIGHTS * size,), "int8")

    def body(source, packed):
        step = scratch(1, "float32", registers=True)
        _write_step(source, table.size, step)
        with loop(tensor.size) as i:
            store(packed, constant(0, "int8"), i)
        with loop(table.size) as entry:
            number = bind(cast(_rounded(load(source, entry), step), "int32") + constant(WEIGHT + 1, "int32"))
            for plane in range(PLANES_OF_WEIGHTS):
                store(packed, cast(number >> constant(8 * plane, "int32"), "int8"), plane * size + entry)
    return Packed(function([table, tensor], body), tensor, ("weight.table",))
