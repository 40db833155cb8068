"""Dense layer straight from codes of a scalar codebook of up to 256 floats: the table lies in registers as four planes of bytes, in
which AVX-512 VBMI looks up 64 codes at once (Intel SDM, VPERMI2B); the four bytes found make up a float. Memory gives eight bits a
weight instead of 32.
"""

from dataclasses import dataclass
from typing import Any

from backends.codebook import Blocks, Codes, blocks_of_outputs, for_each_block
from backends.convolution import last_step
from backends.emit import bind, cast, constant, function, load, loop, scratch, splat, store
from backends.nest import loop_unless_one, shared
from backends.permute import interleaved, permuted_bytes, permutes_bytes
from backends.view import View
from backends.workload import Lowering, Packed, Tensor

PRIORITY = 1
# Inputs whose codes are looked up together, the outputs of each, and the codes of one vector.
INPUTS, LANES, BYTES, PLANES = 4, 16, 64, 4


def serves(workload, target) -> bool:
    """Scalar codebooks, one table, a vector of outputs or more, and a target that looks up bytes."""
    codes = Codes.of(workload.unpack)
    return codes.length == codes.tables == 1 and codes.outputs >= LANES and permutes_bytes(target)


def options(workload, target) -> list[dict]:
    """Vectors of outputs that share the inputs they load."""
    most = Codes.of(workload.unpack).outputs // LANES
    return [{"vectors": vectors} for vectors in (4, 2, 1) if vectors <= most]


def lower(workload, target, option) -> Lowering:
    """Blocks of outputs, each over all inputs, four at a time."""
    codes, vectors = Codes.of(workload.unpack), option["vectors"]
    blocks, size = blocks_of_outputs(codes.outputs, vectors * LANES), plane_size(codes)
    threads = target.threads_for(codes.outputs * codes.segments // LANES)

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        with loop_unless_one(workload["x"].shape[0]) as n, shared(threads) as share, for_each_block(blocks, share) as block:
            planes = [[load(buffers["weight.table"], plane * size + part, BYTES) for part in range(0, size, BYTES)]
                      for plane in range(PLANES)]
            sums = _Sums(planes, x.of_image(n), buffers["weight.codes"], vectors,
                         scratch(vectors * LANES, "float32", registers=True))
            sums.add_all(codes.segments, block)
            for v in range(vectors):
                first = bind(blocks.first(block) + v * LANES)
                values = [load(buffers[name], first, LANES) for name in workload.parameters]
                sink.put(last_step(workload, load(sums.sums, v * LANES, LANES), values, LANES), n, 0, 0, first, LANES)
    return Lowering(body, {"weight.codes": _packed_codes(workload["weight.codes"], codes, blocks),
                           "weight.table": _packed_table(workload["weight.table"], size)})


def plane_size(codes: Codes) -> int:
    """Entries of a plane: 64, 128 or 256."""
    return max(BYTES, 1 << (codes.entries - 1).bit_length())


@dataclass(frozen=True)
class _Sums:
    """The sums of one block of outputs: `vectors` of them in registers."""

    planes: list
    x: View
    codes: Any
    vectors: int
    sums: Any

    def add_all(self, inputs: int, block) -> None:
        """All inputs, the last of which may be fewer than four."""
        for v in range(self.vectors):
            store(self.sums, constant(0, "float32", LANES), v * LANES, LANES)
        whole, rest = divmod(inputs, INPUTS)
        base = bind(block * (whole + (rest > 0)) * self.vectors * BYTES)
        with loop(whole) as k:
            self._add(k, base, INPUTS)
        if rest:
            self._add(whole, base, rest)

    def _add(self, k, base, inputs: int) -> None:
        """Inputs 4 k and the following of every vector."""
        x = [bind(load(self.x.buffer, self.x.at(0, 0, 0, k * INPUTS + q))) for q in range(inputs)]
        for v in range(self.vectors):
            weights = self._weights(bind(load(self.codes, base + (k * self.vectors + v) * BYTES, BYTES)))
            for number, weight in zip(x, weights):
                total = load(self.sums, v * LANES, LANES) + splat(number, LANES) * weight
                store(self.sums, total, v * LANES, LANES)

    def _weights(self, numbers) -> list:
        """The floats that 64 codes name: a vector for each of four inputs."""
        from tvm import tirx

        found = [bind(permuted_bytes(plane, numbers)) for plane in self.planes]
        halves = zip(interleaved(found[0], found[1], 1), interleaved(found[2], found[3], 1))
        return [tirx.reinterpret(f"float32x{LANES}", quarter) for low, high in halves for quarter in interleaved(low, high, 2)]


def _packed_codes(stored: Tensor, codes: Codes, blocks: Blocks) -> Packed:
    """Bytes [blocks, inputs / 4, vectors, 4 groups of outputs, 4 inputs, 4 outputs], as the interleaving of planes takes them."""
    from tvm import tirx

    steps = -(-codes.segments // INPUTS)
    tensor = Tensor((blocks.count * steps * blocks.width * INPUTS,), "int8")

    def body(source, packed):
        with loop(blocks.count) as block, loop(steps) as k, loop(blocks.width) as place, loop(INPUTS) as q:
            code = codes.read(source, blocks.first(block) + place, tirx.min(k * INPUTS + q, codes.segments - 1), 0)
            to = ((block * steps + k) * blocks.width + place // 4 * 4) * INPUTS + q * 4 + place % 4
            store(packed, cast(code, "int8"), to)
    return Packed(function([stored, tensor], body), tensor)


def _packed_table(stored: Tensor, size: int) -> Packed:
    """The entries' bytes, lowest first: four planes of `size`."""
    from tvm import tirx

    tensor = Tensor((PLANES * size,), "int8")

    def body(source, packed):
        with loop(tensor.size) as i:
            store(packed, constant(0, "int8"), i)
        with loop(stored.size) as entry:
            word = bind(tirx.reinterpret("int32", load(source, entry)))
            for plane in range(PLANES):
                store(packed, cast(word >> constant(8 * plane, "int32"), "int8"), plane * size + entry)
    return Packed(function([stored, tensor], body), tensor)
