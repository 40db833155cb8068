"""Dense layer straight from codes of up to four bits, by tabulated products (Jegou et al., Product quantization for nearest neighbor
search, 2011, section III; Wu et al., Quantized convolutional neural networks, 2016): the products of a segment's inputs with the
16 vectors of its table are computed in a register, and each output looks its own up there by a permutation. Memory gives four bits
for `length` weights instead of 32 for one.
"""

from dataclasses import dataclass
from typing import Any

from backends.codebook import Blocks, Codes, blocks_of_outputs, for_each_block
from backends.convolution import last_step
from backends.emit import bind, cast, constant, function, load, loop, scratch, splat, store
from backends.nest import loop_unless_one, shared
from backends.permute import permuted, permutes
from backends.target import Target
from backends.view import View
from backends.workload import Lowering, Packed, Tensor

PRIORITY = 0
# Codes of four bits in a word of 32, and the entries that they can name.
IN_WORD, ENTRIES = 8, 16


def serves(workload, target) -> bool:
    """At most 16 entries, a vector of outputs or more, and a target that permutes floats in registers."""
    codes = Codes.of(workload.unpack)
    return codes.entries <= ENTRIES and codes.outputs >= target.lanes and permutes(target)


def options(workload, target) -> list[dict]:
    """Vectors of outputs that look up the same products."""
    most = Codes.of(workload.unpack).outputs // target.lanes
    return [{"vectors": vectors} for vectors in (8, 4, 6) if vectors <= most] or [{"vectors": 1}]


def lower(workload, target, option) -> Lowering:
    """Blocks of outputs, each over all words of codes."""
    codes, lanes, vectors = Codes.of(workload.unpack), target.lanes, option["vectors"]
    blocks = blocks_of_outputs(codes.outputs, vectors * lanes)
    threads = target.threads_for(codes.outputs * codes.segments // lanes)

    def body(buffers, sink):
        x = View.of(buffers["x"], workload["x"])
        with loop_unless_one(workload["x"].shape[0]) as n, shared(threads) as share, for_each_block(blocks, share) as block:
            sums = _Sums(codes, target, x.of_image(n), buffers["weight.table"], buffers["weight.codes"], vectors,
                         scratch(vectors * lanes, "float32", registers=True))
            sums.add_all(workload["weight"].shape[1], block)
            for v in range(vectors):
                first = bind(blocks.first(block) + v * lanes)
                values = [load(buffers[name], first, lanes) for name in workload.parameters]
                sink.put(last_step(workload, load(sums.sums, v * lanes, lanes), values, lanes), n, 0, 0, first, lanes)
    return Lowering(body, {"weight.codes": _packed_codes(workload["weight.codes"], codes, blocks),
                           "weight.table": _packed_table(workload["weight.table"], codes)})


@dataclass(frozen=True)
class _Sums:
    """The sums of one block of outputs: `vectors` of them in registers."""

    codes: Codes
    target: Target
    x: View
    table: Any
    words: Any
    vectors: int
    sums: Any

    def add_all(self, inputs: int, block) -> None:
        """All words; the last one's segments may be short or missing."""
        codes, lanes = self.codes, self.target.lanes
        for v in range(self.vectors):
            store(self.sums, constant(0, "float32", lanes), v * lanes, lanes)
        whole = inputs // codes.length // IN_WORD
        base = bind(block * words_of(codes) * self.vectors * lanes)
        with loop(whole) as k:
            self._add(k, base, [codes.length] * IN_WORD)
        if whole < words_of(codes):
            rest = inputs - whole * IN_WORD * codes.length
            self._add(whole, base, [min(codes.length, rest - j * codes.length) for j in range(IN_WORD)])

    def _add(self, k, base, lengths: list[int]) -> None:
        """Word k of every vector; `lengths`: the inputs of its segments. A permutation reads the lowest bits of each lane
        only, so bytes are brought there by loading from that byte on, which costs less than a shift."""
        from tvm import tirx

        lanes = self.target.lanes
        for j, length in enumerate(lengths):
            if length <= 0:
                return
            products = self._products(k * IN_WORD + j, length)
            for v in range(self.vectors):
                at = 4 * (base + (k * self.vectors + v) * lanes) + j // 2
                numbers = tirx.reinterpret(f"int32x{lanes}", load(self.words, at, 4 * lanes))
                numbers = numbers >> constant(4, "int32", lanes) if j % 2 else numbers
                total = load(self.sums, v * lanes, lanes) + permuted(products, numbers, self.target)
                store(self.sums, total, v * lanes, lanes)

    def _products(self, segment, length: int) -> list:
        """The inputs of a segment times each vector of its table: 16 numbers, in vectors of the target."""
        row = segment * self.codes.length * ENTRIES if self.codes.tables > 1 else 0
        totals = [None] * (ENTRIES // self.target.lanes)
        for j in range(length):
            x = bind(load(self.x.buffer, self.x.at(0, 0, 0, segment * self.codes.length + j)))
            for i, total in enumerate(totals):
                column = load(self.table, row + j * ENTRIES + i * self.target.lanes, self.target.lanes)
                product = splat(x, self.target.lanes) * column
                totals[i] = product if total is None else total + product
        return [bind(total) for total in totals]


def words_of(codes: Codes) -> int:
    """Words of the codes of one output."""
    return -(-codes.segments // IN_WORD)


def _packed_codes(stored: Tensor, codes: Codes, blocks: Blocks) -> Packed:
    """Words of 32 bits as bytes, [blocks, words, outputs of a block, 4]: four bits a code, the first segment's lowest. Three
    bytes more, which loads from a word's last byte read."""
    words = words_of(codes)
    tensor = Tensor((4 * blocks.count * words * blocks.width + 3,), "uint8")

    def body(source, packed):
        with loop(blocks.count) as block, loop(words) as k, loop(blocks.width) as place, loop(4) as byte:
            low, high = (_code(codes, source, blocks.first(block) + place, k * IN_WORD + 2 * byte + i) for i in (0, 1))
            store(packed, cast(low | (high << constant(4, "int32")), "uint8"),
                  4 * ((block * words + k) * blocks.width + place) + byte)
        for i in range(3):
            store(packed, constant(0, "uint8"), tensor.size - 3 + i)
    return Packed(function([stored, tensor], body), tensor)


def _code(codes: Codes, source, output, segment):
    """The code, zero past the last segment."""
    from tvm import tirx

    inside = codes.read(source, output, tirx.min(segment, codes.segments - 1), 0)
    return tirx.Select(segment < codes.segments, inside, constant(0, "int32"))


def _packed_table(stored: Tensor, codes: Codes) -> Packed:
    """[tables, length, 16]: the j-th numbers of a table's vectors in a row, zeros past its entries."""
    tensor = Tensor((codes.tables * codes.length * ENTRIES,), "float32")

    def body(source, packed):
        with loop(tensor.size) as i:
            store(packed, constant(0, "float32"), i)
        with loop(codes.tables) as t, loop(codes.entries) as entry, loop(codes.length) as j:
            store(packed, load(source, (t * codes.entries + entry) * codes.length + j), (t * codes.length + j) * ENTRIES + entry)
    return Packed(function([stored, tensor], body), tensor)
