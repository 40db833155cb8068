"""Dot products of bytes: in every 32-bit lane four unsigned inputs times four signed weights, added to an int32, exactly.

x86 with VNNI has one instruction for it (Intel SDM, VPDPBUSD). Other x86 multiplies bytes in pairs (VPMADDUBSW), but two
products of 255 and 127 pass its 16 bits; so the even and the odd bytes are spread to words, whose products it sums in pairs in
32 bits (VPMADDWD). AArch64 multiplies signed bytes by signed ones, and adds up fours of products (SDOT) or pairs of them (SMULL,
SADALP): inputs are read less 128, and 128 times the sum of the weights is added in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backends.emit import cast, constant

# Bytes of a word.
BYTES = 4
# By int32 lanes: the bits of a vector; and of the products of words, which no vector but these have, the feature and the name.
BITS = {16: 512, 8: 256, 4: 128}
WORDS = {16: ("avx512bw", "llvm.x86.avx512.pmaddw.d.512"), 8: ("avx2", "llvm.x86.avx2.pmadd.wd"),
         4: ("sse2", "llvm.x86.sse2.pmadd.wd")}
# What makes signed bytes of unsigned ones: 128 less.
SIGNED = 128
SIGN_BITS = -0x7F7F7F80  # 0x80808080


@dataclass(frozen=True)
class Dot:
    """A target's dot product of bytes: `step(sums, x, weight, lanes)`, of int32 lanes that hold four bytes each. The bytes of x are
    read less `offset`: 0, or 128 where they are signed."""

    step: Callable
    offset: int = 0


def dot_of(target) -> Dot | None:
    """The target's fastest; None where it has none."""
    if has_vnni(target):
        return Dot(vnni)
    if {"neon", "v8a"} <= target.features:
        return Dot(by_signed_words if "dotprod" in target.features else by_signed_pairs, SIGNED)
    return Dot(by_words) if WORDS.get(target.lanes, ("none",))[0] in target.features else None


def has_vnni(target) -> bool:
    """Whether the target multiplies bytes in vectors of 512, 256 and 128 bits (AVX-512 VNNI and VL)."""
    return target.lanes == 16 and {"avx512vnni", "avx512vl"} <= target.features


def vnni(sums, x, weight, lanes: int):
    """sums + the dot product of the bytes of x (unsigned) and weight (signed), lane by lane of int32."""
    if lanes not in BITS:
        return bytewise(sums, x, weight, lanes)
    from tvm import tirx

    # LLVM's intrinsic takes vectors of bytes here, where it once took vectors of words.
    bytes_of = [tirx.reinterpret(f"int8x{4 * lanes}", value) for value in (x, weight)]
    return intrinsic(f"llvm.x86.avx512.vpdpbusd.{BITS[lanes]}", f"int32x{lanes}", sums, *bytes_of)


def by_words(sums, x, weight, lanes: int):
    """The same without VNNI: the spread bytes of x are the same for all vectors of weights, and theirs for all pixels."""
    if lanes not in WORDS:
        return bytewise(sums, x, weight, lanes)
    from tvm import tirx

    words, byte = f"int16x{2 * lanes}", constant(8, "int16", 2 * lanes)
    low = constant(0x00FF00FF, "int32", lanes)
    inputs = [tirx.reinterpret(words, value & low) for value in (x, x >> constant(8, "int32", lanes))]
    packed = tirx.reinterpret(words, weight)
    for pair, weights in zip(inputs, ((packed << byte) >> byte, packed >> byte)):
        sums = sums + intrinsic(WORDS[lanes][1], f"int32x{lanes}", pair, weights)
    return sums


def by_signed_words(sums, x, weight, lanes: int):
    """The same of signed bytes x (SDOT)."""
    if lanes not in (2, 4):
        return bytewise(sums, x, weight, lanes, "int8")
    from tvm import tirx

    bytes_of = [tirx.reinterpret(f"int8x{4 * lanes}", value) for value in (x, weight)]
    return intrinsic(f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8", f"int32x{lanes}", sums, *bytes_of)


def by_signed_pairs(sums, x, weight, lanes: int):
    """The same of signed bytes x: products of two bytes of each lane in 16 bits (SMULL), and their sums (SADALP), twice. Two
    products of -128 and -128 would pass 16 bits."""
    if lanes != 4:
        return bytewise(sums, x, weight, lanes, "int8")
    from tvm import tirx

    words = [tirx.reinterpret("int16x8", value) for value in (x, weight)]
    for half in (0, 1):
        bytes_of = [tirx.reinterpret("int8x8", tirx.Shuffle([value], list(range(half, 8, 2)))) for value in words]
        products = intrinsic("llvm.aarch64.neon.smull.v8i16", "int16x8", *bytes_of)
        sums = sums + intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", "int32x4", products)
    return sums


def bytewise(sums, x, weight, lanes: int, inputs: str = "uint8"):
    """The same for the two lanes or one that are left at the end of a row; x has bytes of type `inputs`."""
    for i in range(BYTES):
        shift = constant(8 * i, "int32", lanes)
        factors = [cast(cast(value >> shift, dtype, lanes), "int32", lanes) for value, dtype in ((x, inputs), (weight, "int8"))]
        sums = sums + factors[0] * factors[1]
    return sums


def intrinsic(name: str, dtype: str, *arguments):
    """A call of an LLVM intrinsic without effects."""
    from tvm.tirx.script.builder import ir as T

    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), *arguments, dtype=dtype)
