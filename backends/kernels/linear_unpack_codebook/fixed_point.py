"""Dense layer straight from codes of a scalar codebook of up to 256 numbers, in fixed point of 24 bits: the table lies in registers as
three planes of bytes, in which AVX-512 VBMI looks up 64 codes at once (Intel SDM, VPERMI2B), and bytes are multiplied by the
inputs' bytes four at a time (VPDPBUSD). Memory gives eight bits a weight instead of 32.

    weight = step_w * (256^2 w2 + 256 w1 + w0 - 2^23), w2 to w0 unsigned;  x = step_x * (256^2 x2 + 256 x1 + x0), signed
    sum = step_w * step_x * 256^2 * (256^2 sum w2' x2 + 256 sum (w2' x1 + w1 x2) + sum (w2' x0 + w1 x1 + w0 x2)), w2' = w2 - 128

Integer sums are exact. Rounding and the products left out, of lower bytes, cost about 2^-22 of the largest weight times the largest
input for each product at most. Inputs must be finite.

A table of more than 128 numbers takes two look-ups a plane, and is spared the lowest: codes are numbered anew in the order of the
lowest bytes, so that the code itself is nearly that byte, and the other two are the nearest to what is left. That costs some 2^-20 of the
largest weight, 2^-16 where all lowest bytes are alike.
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
# Inputs that one instruction multiplies, the outputs of a vector, its codes, and the bytes of a number.
INPUTS, LANES, BYTES, PLANES = 4, 16, 64, 3
# The largest number of each: weights in 24 bits around 2^23 with room for another lowest byte, inputs whose bytes are signed.
WEIGHT, INPUT = 2**23 - 257, 127 * 2**16
# Entries of tables whose lowest bytes are the codes.
NUMBERED = 256
# Inputs whose three products of bytes, at most 255 * 128 each, cannot pass 32 bits.
MOST = (2**31 - 1) // (3 * 255 * 128 + 128 * 128)


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
    blocks, size = blocks_of_outputs(codes.outputs, vectors * LANES), plane_of(codes.entries)
    threads = target.threads_for(codes.outputs * codes.segments // LANES)

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        with loop_unless_one(workload["x"].shape[0]) as n:
            numbers = _Inputs.of(x.of_image(n), codes.segments)
            scale = bind(numbers.step() * load(buffers["step"], 0))
            with shared(threads) as share, for_each_block(blocks, share) as block:
                planes = [[load(buffers["planes"], plane * size + part, BYTES) for part in range(0, size, BYTES)]
                          for plane in range(size == NUMBERED, PLANES)]
                sums = _block(planes, numbers, buffers["numbered"], vectors, block)
                for v in range(vectors):
                    first = bind(blocks.first(block) + v * LANES)
                    values = [load(buffers[name], first, LANES) for name in workload.parameters]
                    total = _total(sums, v) * splat(scale, LANES)
                    sink.put(last_step(workload, total, values, LANES), n, 0, 0, first, LANES)
    return Lowering(body, {"numbered": _packed_codes(table, workload["weight.codes"], codes, blocks),
                           "planes": _packed_planes(table, size), "step": _packed_step(table)})


def plane_of(entries: int) -> int:
    """Entries of a plane: 64, 128 or 256."""
    return max(BYTES, 1 << (entries - 1).bit_length())


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
            found = [code] * (PLANES - len(planes)) + [permuted_bytes(plane, code) for plane in planes]
            weights = [bind(tirx.reinterpret(f"int32x{LANES}", each)) for each in found]
            for order in range(PLANES):
                at = (v * PLANES + order) * LANES
                total = load(sums, at, LANES)
                for part in range(order + 1):
                    total = vnni(total, weights[PLANES - 1 - part], x[PLANES - 1 - order + part], LANES)
                store(sums, total, at, LANES)
    return sums


def _total(sums, v: int):
    """256^2 times (256^2 times the first sums, 256 times the second, and the third) as floats."""
    total = None
    for order in range(PLANES):
        part = cast(load(sums, (v * PLANES + order) * LANES, LANES), "float32", LANES)
        part = part * constant(float(256 ** (4 - order)), "float32", LANES)
        total = part if total is None else total + part
    return total


def _packed_codes(table: Tensor, stored: Tensor, codes: Codes, blocks: Blocks) -> Packed:
    """Bytes [blocks, steps, outputs of a block, 4 inputs]."""
    from tvm import tirx

    steps = steps_of(codes.segments)
    tensor = Tensor((blocks.count * steps * blocks.width * INPUTS,), "int8")

    def body(numbers, source, packed):
        names = _names(_whole_numbers(numbers, table.size), table.size)
        with loop(blocks.count) as block, loop(steps) as k, loop(blocks.width) as place, loop(INPUTS) as q:
            code = codes.read(source, blocks.first(block) + place, tirx.min(k * INPUTS + q, codes.segments - 1), 0)
            store(packed, cast(load(names, code), "int8"), ((block * steps + k) * blocks.width + place) * INPUTS + q)
    return Packed(function([table, stored, tensor], body), tensor, ("weight.table", "weight.codes"))


def _whole_numbers(table, entries: int):
    """The entries in 24 bits, int32."""
    from tvm import tirx

    step, whole = scratch(1, "float32", registers=True), scratch(entries, "int32")
    _write_step(table, entries, step)
    with loop(entries) as entry:
        number = tirx.min(tirx.nearbyint(load(table, entry) / load(step, 0)), constant(WEIGHT, "float32"))
        store(whole, cast(number, "int32") + constant(2**23, "int32"), entry)
    return whole


def _names(whole, entries: int):
    """The code of each entry: its own, or one near its lowest byte, in the order of these."""
    from tvm import tirx

    names, numbered = scratch(entries, "int32"), plane_of(entries) == NUMBERED
    with loop(entries) as entry:
        name = _lower(whole, entries, entry) * constant(NUMBERED, "int32") if numbered else entry
        store(names, tirx.floordiv(name, constant(entries, "int32")) if numbered else name, entry)
    return names


def _lower(whole, entries: int, entry):
    """How many entries have a lower lowest byte, or the same and come before."""
    from tvm import tirx

    count, own = scratch(1, "int32", registers=True), bind(load(whole, entry) & constant(255, "int32"))
    store(count, constant(0, "int32"), 0)
    with loop(entries) as other:
        byte = bind(load(whole, other) & constant(255, "int32"))
        lower = tirx.any(byte < own, tirx.all(byte == own, other < entry))
        store(count, load(count, 0) + tirx.Select(lower, constant(1, "int32"), constant(0, "int32")), 0)
    return load(count, 0)


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


def _packed_planes(table: Tensor, size: int) -> Packed:
    """The entries' three bytes by their codes, lowest first: planes of `size`. Where codes are the lowest, the others are those of the
    nearest number that has it."""
    tensor = Tensor((PLANES * size,), "int8")

    def body(source, packed):
        whole = _whole_numbers(source, table.size)
        names = _names(whole, table.size)
        with loop(tensor.size) as i:
            store(packed, constant(0, "int8"), i)
        with loop(table.size) as entry:
            name, number = bind(load(names, entry)), load(whole, entry)
            number = bind(number - name + constant(128, "int32") if size == NUMBERED else number)
            for plane in range(PLANES):
                store(packed, cast(number >> constant(8 * plane, "int32"), "int8"), plane * size + name)
    return Packed(function([table, tensor], body), tensor, ("weight.table",))
