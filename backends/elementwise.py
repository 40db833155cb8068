"""Kernels that compute each output element from the input elements at the same place."""

from collections.abc import Callable

from backends.emit import function, load, loop, segments, store
from backends.workload import Lowering


def elementwise(workload, target, value: Callable) -> Lowering:
    """The kernel of (inputs..., out) with out[i] = value(lanes, inputs[i]...), in vectors."""
    tensors = [tensor for _, tensor in workload.tensors]

    def body(*buffers):
        *inputs, out = buffers
        for part in segments(workload.out.size, target.lanes, 1):
            with loop(part.count, target.threads > 1) as tile:
                at = part.start + tile * part.lanes
                store(out, value(part.lanes, *(load(x, at, part.lanes) for x in inputs)), at, part.lanes)
    return Lowering(function([*tensors, workload.out], body))
