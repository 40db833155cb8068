"""A table of 256 bytes, looked up number by number: any processor."""

from backends.elementwise import same_or_gate
from backends.emit import cast, load
from backends.lookup import lookup
from backends.workload import one_way

PRIORITY = 1
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Images and vectors."""
    return same_or_gate(workload, ("x",))


def lower(workload, target, option):
    """See `lookup`."""
    return lookup(workload, target, 1, lambda table: lambda x, lanes: load(table, cast(x, "int32")))
