"""A table of 256 bytes in four registers, 64 numbers looked up at once (AVX-512 VBMI: VPERMI2B takes the seven lower bits
of each number as an index into 128 bytes; the eighth chooses between two halves)."""

from backends.elementwise import same_or_gate
from backends.emit import bind, cast, constant, load
from backends.lookup import lookup
from backends.workload import one_way

PRIORITY = 0
BYTES = 64
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Images and vectors on targets with AVX-512 VBMI."""
    return "avx512vbmi" in target.features and same_or_gate(workload, ("x",))


def lower(workload, target, option):
    """See `lookup`."""
    return lookup(workload, target, BYTES, _in_registers)


def _in_registers(table):
    from tvm import tirx
    from tvm.tirx.script.builder import ir as T

    parts = [bind(tirx.reinterpret(f"int8x{BYTES}", load(table, BYTES * i, BYTES))) for i in range(4)]

    def found(x, lanes):
        if lanes < BYTES:
            return load(table, cast(x, "int32"))
        index = bind(tirx.reinterpret(f"int8x{BYTES}", x))
        intrinsic = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpermi2var.qi.512")
        low, high = (T.call_llvm_pure_intrin(intrinsic, parts[i], index, parts[i + 1], dtype=f"int8x{BYTES}") for i in (0, 2))
        return tirx.reinterpret(f"uint8x{BYTES}", tirx.Select(index < constant(0, "int8", BYTES), high, low))
    return found
