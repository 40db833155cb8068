"""A hashed table to dense weights, weight by weight: run once, when a network is loaded. The hash is that of
`unpack_hashed` (XXH32 of four bytes)."""

from backends.emit import bind, cast, constant, load, loop, store
from backends.workload import Lowering, one_way

PRIORITY = 0
PRIME2, PRIME3, PRIME4, PRIME5 = 2246822519, 3266489917, 668265263, 374761393
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Every workload."""
    return True


def lower(workload, target, option) -> Lowering:
    """One hash a weight."""
    from tvm import tirx

    entries = workload["table"].size

    def body(buffers, sink):
        with loop(workload.out.size) as i:
            h = xxh32(i, workload["seed"])
            bucket = (h >> _word(1)) % _word(entries)
            value = load(buffers["table"], cast(bucket, "int32"))
            store(sink.out.buffer, tirx.Select((h & _word(1)) > _word(0), -value, value), i)
    return Lowering(body)


def xxh32(number, seed: int):
    """The hash of an int32 as a uint32."""
    h = _product(cast(number, "uint32"), PRIME3, (seed + PRIME5 + 4) % 2**32)
    h = _product((h << _word(17)) | (h >> _word(15)), PRIME4)
    h = _product(h ^ (h >> _word(15)), PRIME2)
    h = _product(h ^ (h >> _word(13)), PRIME3)
    return bind(h ^ (h >> _word(16)))


def _product(h, prime: int, more: int = 0):
    """The lower 32 bits of h * prime + more. In 64 bits, since TVM tells LLVM that no unsigned product of 32 bits overflows."""
    wide = cast(h, "uint64") * constant(prime, "uint64") + constant(more, "uint64")
    return bind(cast(wide & constant(2**32 - 1, "uint64"), "uint32"))


def _word(value: int):
    return constant(value, "uint32")
