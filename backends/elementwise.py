"""Kernels that compute each result from the elements at the same place, or from one element a channel.

Their files give `value(arguments, lanes, operands...)`, and so can also be steps at the end of another
kernel (`backends.sink`).
"""

from collections.abc import Callable
from dataclasses import replace

from backends.channels import runs_of
from backends.emit import load
from backends.nest import nest, shared
from backends.view import View, sides
from backends.workload import Lowering


def elementwise(value: Callable) -> Callable:
    """A kernel file's `lower` from its `value`."""
    def lower(workload, target, option) -> Lowering:
        def body(buffers, sink):
            views = [_spread(View.of(buffers[name], tensor), tensor, workload.out) for name, tensor in workload.tensors]

            def visit(n, y, x, c, lanes):
                operands = [load(view.buffer, view.at(n, y, x, c), lanes, view.channel) for view in views]
                sink.put(value(dict(workload.arguments), lanes, *operands), n, y, x, c, lanes)
            each_vector(workload.out, target, visit)
        return Lowering(body)
    return lower


def each_vector(tensor, target, visit: Callable) -> None:
    """Loops over every pixel and vector of channels: `visit(n, y, x, c, lanes)`."""
    batch, channels, height, width = sides(tensor)
    with shared(target.threads_to_fetch(tensor.size // target.lanes)) as share:
        for first, count, lanes in runs_of(channels, target.lanes):
            with nest({"rows": batch * height, "columns": width, "channels": count}, "pixels", share) as index:
                row = index["rows"]
                n, y = (row // height, row % height) if batch > 1 else (0, row)
                visit(n, y, index["columns"], first + index["channels"] * lanes, lanes)


def same_or_gate(workload, names: tuple[str, ...] = ()) -> bool:
    """Whether every operand (or those named) has the result's shape, or [N, C, 1, 1]."""
    shapes = (workload.out.shape, (*workload.out.shape[:2], 1, 1))
    operands = [tensor for name, tensor in workload.tensors if not names or name in names]
    return len(workload.out.shape) in (2, 4) and all(tensor.shape in shapes for tensor in operands)


def float_tensors(workload, target) -> bool:
    """What most element-wise files serve: float32 tensors of one shape, or one value a channel."""
    return workload.out.dtype == "float32" and same_or_gate(workload)


def _spread(view: View, tensor, out) -> View:
    """One value a channel is read at every pixel."""
    return view if tensor.shape == out.shape else replace(view, row=0, column=0)
