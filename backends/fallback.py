"""Ops that no kernel file serves: TVM's own lowering, as slow as it may be. They are named and counted, never silent."""


def emit_fallback(builder, node, inputs: list):
    """The Relax variable of what the FX node `node` computes from `inputs` (variables, plain layout).

    CompileError if TVM does not know the op either.
    """
    from tvm import relax

    module = _lowered(node)
    function = next(f for f in module.functions.values() if isinstance(f, relax.Function))
    known = dict(zip(function.params, inputs))
    for block in function.body.blocks:
        for binding in block.bindings:
            known[binding.var] = builder.emit(_copied(builder, module, binding.value, known))
    return known[function.body.body]


def _lowered(node):
    """The node alone as a Relax module of calls of TIR functions."""
    import torch
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    from backends.workload import CompileError

    examples = tuple(torch.zeros(i.meta["val"].shape, dtype=i.meta["val"].dtype) for i in node.all_input_nodes)
    try:
        program = torch.export.export(_alone(node), examples)
        module = from_exported_program(program, unwrap_unit_return_tuple=True)
        return relax.transform.LegalizeOps()(module)
    except Exception as error:
        raise CompileError(f"no kernel for op {node.target}, and TVM cannot lower it: {error}".splitlines()[0]) from None


def _alone(node):
    """A torch module that calls the node's op on the node's tensors, its other arguments as they are."""
    import torch
    from torch import fx

    class Alone(torch.nn.Module):
        def forward(self, *tensors):
            given = dict(zip(node.all_input_nodes, tensors))
            return node.target(*fx.node.map_arg(node.args, given.__getitem__), **fx.node.map_arg(node.kwargs, given.__getitem__))
    return Alone()


def _copied(builder, module, value, known: dict):
    """A binding's value with its variables replaced, and its functions added to the builder's module."""
    from tvm import ir, relax

    if isinstance(value, relax.Var):
        return known[value]
    if isinstance(value, relax.Tuple):
        return relax.Tuple([_copied(builder, module, field, known) for field in value.fields])
    if isinstance(value, ir.GlobalVar):
        return builder.add_func(module[value], f"fallback_{value.name_hint}")
    if isinstance(value, relax.Call):
        arguments = [_copied(builder, module, argument, known) for argument in value.args]
        return relax.Call(value.op, arguments, value.attrs, value.ty_args)
    return value
