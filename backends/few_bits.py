"""Products with weights that stay in codes of few bits until they are in registers.

In memory a 32-bit lane holds the codes of 8, 16 or 32 input channels of an output in 4, 2 or 1 bits each: in byte i,
counted from the lowest, code j is of channel 4 j + i. Masked and shifted, a vector of lanes becomes one of indices into
a table of 16 bytes, which the processor's byte shuffle looks up (x86 PSHUFB); the bytes are weights of four channels in
each lane, multiplied by four of the unsigned inputs and added to an int32. So codes may stand for any numbers, at one price.
"""

from backends.arithmetic import word
from backends.codes import Codes, codes_of, read_code
from backends.dot import WORDS, bytewise, has_vnni, intrinsic, vnni
from backends.emit import bind, constant, load
from backends.packing import arranged, within
from backends.product import Arithmetic
from backends.workload import Workload

WIDEST, TABLE = 4, 16
# By int32 lanes of a full vector: the feature with instructions on bytes.
BYTES = {16: "avx512bw", 8: "avx2"}
# By int32 lanes: the shuffle, and where there is no VNNI the products of bytes summed in pairs.
SHUFFLE = {16: "llvm.x86.avx512.pshuf.b.512", 8: "llvm.x86.avx2.pshuf.b", 4: "llvm.x86.ssse3.pshuf.b.128"}
PAIRS = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw", 4: "llvm.x86.ssse3.pmadd.ub.sw.128"}


def serves_few_bits(workload: Workload, target) -> bool:
    """Codes of at most 4 bits, on x86 that shuffles and multiplies bytes in full vectors."""
    codes = codes_of(workload.unpack)
    return codes is not None and codes.bits <= WIDEST and BYTES.get(target.lanes) in target.features


def few_bits(workload: Workload, target) -> Arithmetic:
    """The arithmetic of a layer with weights in codes."""
    codes = codes_of(workload.unpack)
    width = next(width for width in (1, 2, 4) if width >= codes.bits)
    parts = 8 // width

    def x(buffer, index):
        return [word(buffer, index + 4 * part) for part in range(parts)]

    def weight(buffer, index, lanes):
        packed = bind(load(buffer, index, lanes))
        return [_looked_up(codes, width, packed, part, lanes) for part in range(parts)]

    def pack(weight, blocks, groups):
        return _packed(workload, codes, width, blocks, groups)
    return Arithmetic(4 * parts, "int32", x, weight, vnni if has_vnni(target) else _pairs, pack)


def _looked_up(codes: Codes, width: int, packed, part: int, lanes: int):
    """The weights of four channels in each lane."""
    from tvm import tirx

    size, mask = 4 * lanes, ((1 << width) - 1) * 0x01010101
    indices = (packed >> constant(width * part, "int32", lanes)) & constant(mask, "int32", lanes)
    indices = tirx.reinterpret(f"int8x{size}", indices)
    if lanes in SHUFFLE:
        places = tirx.Ramp(constant(0, "int8"), constant(1, "int8"), size) & constant(TABLE - 1, "int8", size)
        weights = intrinsic(SHUFFLE[lanes], f"int8x{size}", _chosen(codes, places, size), indices)
    else:
        weights = _chosen(codes, indices, size)
    return tirx.reinterpret(f"int32x{lanes}" if lanes > 1 else "int32", weights)


def _chosen(codes: Codes, indices, lanes: int):
    """The values of codes, one comparison after the other; of constants, a constant."""
    from tvm import tirx

    chosen = constant(0, "int8", lanes)
    for code, value in enumerate(codes.values):
        chosen = tirx.Select(tirx.EQ(indices, constant(code, "int8", lanes)), constant(value, "int8", lanes), chosen)
    return chosen


def _pairs(sums, x, weight, lanes: int):
    """As `dot.vnni`, without VNNI: exact, since the sum of two products, 2 * 255 * 64 at most, fits 16 bits."""
    if lanes not in PAIRS:
        return bytewise(sums, x, weight, lanes)
    from tvm import tirx

    bytes_of = [tirx.reinterpret(f"int8x{4 * lanes}", value) for value in (x, weight)]
    products = intrinsic(PAIRS[lanes], f"int16x{2 * lanes}", *bytes_of)
    return sums + intrinsic(WORDS[lanes][1], f"int32x{lanes}", products, constant(1, "int16", 2 * lanes))


def _packed(workload: Workload, codes: Codes, width: int, blocks, groups: int):
    """The stored codes as lanes; code 0 past the last channel, where inputs are zero."""
    weight, parts = workload["weight"], 8 // width
    channels, taps = weight.shape[1], weight.size // (weight.shape[0] * weight.shape[1])
    names = [f"weight.{plane.name}" for plane in codes.planes]

    def number(*given):
        *stored, output, tap, k = given
        lane = constant(0, "int32")
        for part in range(parts):
            for i in range(4):
                code = within(channels, (k * parts + part) * 4 + i,
                              lambda c: read_code(codes, stored, channels * taps, output, c * taps + tap), "int32")
                lane = lane | (code << constant(8 * i + width * part, "int32"))
        return lane
    return arranged(weight, {name: workload[name] for name in names}, "int32", blocks, groups, 4 * parts, number)
