"""Softmax of each row of float32 logits, shifted by the row's maximum so that nothing overflows."""

from backends.emit import bind, constant, load, loop, scratch, store
from backends.view import View
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """[N, C] along the last dimension."""
    named = dict(workload.arguments)
    return workload.out.dtype == "float32" and len(workload.out.shape) == 2 and named.get("dim") in (1, -1)


def lower(workload, target, option) -> Lowering:
    """Maximum, sum of exponentials, quotients."""
    from tvm import tirx

    (name, tensor), = workload.tensors
    rows, columns = tensor.shape

    def body(buffers, sink):
        x = View.of(buffers[name], tensor)
        state, exponentials = scratch(2, "float32", registers=True), scratch(columns, "float32")
        with loop(rows) as n:
            store(state, load(x.buffer, x.at(n, 0, 0, 0)), 0)
            with loop(columns) as c:
                store(state, tirx.max(load(state, 0), load(x.buffer, x.at(n, 0, 0, c))), 0)
            store(state, constant(0.0, "float32"), 1)
            with loop(columns) as c:
                store(exponentials, tirx.exp(load(x.buffer, x.at(n, 0, 0, c)) - load(state, 0)), c)
                store(state, load(state, 1) + load(exponentials, c), 1)
            scale = bind(constant(1.0, "float32") / load(state, 1))
            with loop(columns) as c:
                sink.put(load(exponentials, c) * scale, n, 0, 0, c, 1)
    return Lowering(body)
