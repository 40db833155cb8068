"""Looking numbers up in a table that lies in registers: permutations by x86 vector instructions (Intel SDM: VPERMPS, VPERMI2B)."""

INTRINSIC = {16: "llvm.x86.avx512.permvar.sf.512", 8: "llvm.x86.avx2.permps"}


def permutes(target) -> bool:
    """Whether the target permutes a vector of floats by numbers in another."""
    return (target.lanes, "avx512f" in target.features, "avx2" in target.features) in ((16, True, True), (8, False, True))


def permuted(parts: list, numbers, target):
    """The element of a table of 16 floats that the lowest four bits of each int32 name. `parts`: the table as one vector of
    16, or two of 8."""
    from tvm import tirx

    from backends.emit import constant

    found = [_lookup(part, numbers, target.lanes) for part in parts]
    if len(found) == 1:
        return found[0]
    upper = (numbers & constant(8, "int32", target.lanes)) > constant(0, "int32", target.lanes)
    return tirx.Select(upper, found[1], found[0])


def _lookup(table, numbers, lanes: int):
    """One instruction: it reads as many bits of each number as the table has entries for."""
    from tvm.tirx.script.builder import ir as T

    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(INTRINSIC[lanes]), table, numbers, dtype=f"float32x{lanes}")


def permutes_bytes(target) -> bool:
    """Whether the target looks up bytes in tables of 128 (AVX-512 VBMI)."""
    return target.lanes == 16 and {"avx512f", "avx512bw", "avx512vbmi"} <= target.features


def permuted_bytes(parts: list, numbers):
    """The element of a table of 64, 128 or 256 bytes, in vectors of 64, that each of 64 bytes names."""
    from tvm import tirx

    from backends.emit import constant

    if len(parts) == 1:
        return _intrinsic("llvm.x86.avx512.permvar.qi.512", *parts, numbers)
    found = [_intrinsic("llvm.x86.avx512.vpermi2var.qi.512", low, numbers, high) for low, high in zip(parts[::2], parts[1::2])]
    return found[0] if len(found) == 1 else tirx.Select(numbers < constant(0, "int8", 64), found[1], found[0])


def _intrinsic(name: str, *vectors):
    from tvm.tirx.script.builder import ir as T

    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), *vectors, dtype="int8x64")
