"""Concatenation of channels: each tensor is copied to its place."""

from backends.emit import function, loop
from backends.window import copy
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """Along dimension 1, any type."""
    return dict(workload.arguments).get("dim", 0) == 1


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (tensors..., out)."""
    tensors = [tensor for _, tensor in workload.tensors]
    batch, whole = workload.out.shape[0], workload.out.size // workload.out.shape[0]

    def body(*buffers):
        *sources, out = buffers
        with loop(batch) as n:
            place = 0
            for source, tensor in zip(sources, tensors):
                size = tensor.size // batch
                copy(source, n * size, out, n * whole + place, size, target.lanes)
                place += size
    return Lowering(function([*tensors, workload.out], body))
