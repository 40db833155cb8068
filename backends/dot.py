"""Dot products of bytes: in every 32-bit lane four unsigned inputs times four signed weights, added to an int32, exactly.

x86 with VNNI has one instruction for it (Intel SDM, VPDPBUSD). Other x86 multiplies bytes in pairs (VPMADDUBSW), but two
products of 255 and 127 pass its 16 bits; so the even and the odd bytes are spread to words, whose products it sums in pairs in
32 bits (VPMADDWD).
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


@dataclass(frozen=True)
class Dot:
    """A target's dot product of bytes: `step(sums, x, weight, lanes)`, of int32 lanes that hold four bytes each."""

    step: Callable


def dot_of(target) -> Dot | None:
    """The target's fastest; None where it has none."""
    if has_vnni(target):
        return Dot(vnni)
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


def bytewise(sums, x, weight, lanes: int):
    """The same for the two lanes or one that are left at the end of a row."""
    for i in range(4):
        shift = constant(8 * i, "int32", lanes)
        unsigned = (x >> shift) & constant(255, "int32", lanes)
        signed = cast(cast(weight >> shift, "int8", lanes), "int32", lanes)
        sums = sums + unsigned * signed
    return sums


def intrinsic(name: str, dtype: str, *arguments):
    """A call of an LLVM intrinsic without effects."""
    from tvm.tirx.script.builder import ir as T

    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), *arguments, dtype=dtype)
