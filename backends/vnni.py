"""The x86 instruction VPDPBUSD: in every 32-bit lane, four unsigned times four signed bytes, added to an int32."""

BITS = {16: 512, 8: 256, 4: 128}


def dot_step(sums, x, weight, lanes: int):
    """sums + the dot product of the bytes of x (unsigned) and weight (signed), lane by lane of int32."""
    if lanes not in BITS:
        return bytewise(sums, x, weight, lanes)
    from tvm import tirx
    from tvm.tirx.script.builder import ir as T

    # LLVM's intrinsic takes vectors of bytes here, where it once took vectors of words.
    bytes_of = [tirx.reinterpret(f"int8x{4 * lanes}", value) for value in (x, weight)]
    intrinsic = T.llvm_lookup_intrinsic_id(f"llvm.x86.avx512.vpdpbusd.{BITS[lanes]}")
    return T.call_llvm_pure_intrin(intrinsic, sums, *bytes_of, dtype=f"int32x{lanes}")


def bytewise(sums, x, weight, lanes: int):
    """The same for the two lanes or one that are left at the end of a row."""
    from backends.emit import cast, constant

    for i in range(4):
        shift = constant(8 * i, "int32", lanes)
        unsigned = (x >> shift) & constant(255, "int32", lanes)
        signed = cast(cast(weight >> shift, "int8", lanes), "int32", lanes)
        sums = sums + unsigned * signed
    return sums
