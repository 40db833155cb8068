"""Which nodes of a graph become one kernel.

An element-wise op joins the kernel of its latest operand if it is that operand's only reader and its
other operands have the same shape (residual sums, activations, quantise steps). A concatenation of
channels becomes the kernels of its operands, each writing to its place; an operand that others read too
is copied.
"""

from dataclasses import dataclass, replace
from typing import Any

from backends.graph import Graph, Node
from backends.lowering import is_step, takes_steps
from backends.workload import Step, Tensor, Workload


@dataclass(frozen=True)
class Part:
    """A workload, the names of its inputs in order, and its first channel in the group's result."""

    workload: Workload
    inputs: tuple[str, ...]
    channel: int = 0


@dataclass(frozen=True)
class Group:
    """What one kernel computes: `name` and `out` are the result's, of the last node; without parts, a reshape of
    `source`; with `unserved`, the program's node that no kernel serves."""

    name: str
    out: Tensor
    parts: tuple[Part, ...]
    source: str = ""
    unserved: Any = None


def inputs_of(group: Group) -> list[str]:
    """The names of all that a group reads, once each, in order."""
    return list(dict.fromkeys(name for part in group.parts for name in part.inputs))


def computed_once(groups: list[Group], graph: Graph) -> set[str]:
    """The names of the stored tensors and of all groups that depend on them alone."""
    once = set(graph.stored)
    for group in groups:
        if once.issuperset(inputs_of(group) if group.parts else (group.source,)):
            once.add(group.name)
    return once


def groups_of(graph: Graph) -> list[Group]:
    """The kernels of a graph, in an order in which they can run."""
    readers = _readers(graph)
    groups: dict[str, Group] = {}
    order: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        order[node.name] = place
        group = _joined(node, groups, readers, order) or _alone(node, groups, readers)
        for name in group.inner:
            del groups[name]
        groups[node.name] = group.group
    return list(groups.values())


@dataclass(frozen=True)
class _Made:
    """A new group, and the groups that went into it."""

    group: Group
    inner: tuple[str, ...] = ()


def _readers(graph: Graph) -> dict[str, int]:
    readers = {name: 0 for name in (*graph.inputs, *graph.stored, *(node.name for node in graph.nodes))}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] += 1
    readers[graph.output] += 1
    return readers


def _alone(node: Node, groups: dict[str, Group], readers: dict[str, int]) -> _Made:
    if node.workload is None:
        return _Made(Group(node.name, node.out, (), node.inputs[0]))
    if node.workload.op == "cat" and dict(node.workload.arguments).get("dim", 0) == 1:
        return _concatenated(node, groups, readers)
    return _Made(Group(node.name, node.out, (Part(node.workload, node.inputs),), unserved=node.unserved))


def _concatenated(node: Node, groups: dict[str, Group], readers: dict[str, int]) -> _Made:
    parts, inner, channel = [], [], 0
    for (_, tensor), name in zip(node.workload.tensors, node.inputs):
        made = groups.get(name)
        if made and made.parts and not made.unserved and readers[name] == 1:
            parts += [replace(part, channel=channel + part.channel) for part in made.parts]
            inner.append(name)
        else:
            copied = Workload("clone", (("self", tensor),), (), replace(tensor, layout=node.out.layout))
            parts.append(Part(copied, (name,), channel))
        channel += tensor.shape[1]
    return _Made(Group(node.name, node.out, tuple(parts)), tuple(inner))


def _joined(node: Node, groups: dict[str, Group], readers: dict[str, int], order: dict[str, int]) -> _Made | None:
    """The group of the latest operand with the node as its next step, if it can have one."""
    if node.workload is None or not is_step(node.workload.op):
        return None
    host = groups.get(max(node.inputs, key=lambda name: order.get(name, -1)))
    if host is None or readers[host.name] > 1 or not _can_join(host, node):
        return None
    operands = tuple(None if name == host.name else tensor for name, (_, tensor) in zip(node.inputs, node.workload.tensors))
    others = tuple(name for name in node.inputs if name != host.name)
    step = Step(node.workload.op, operands, node.workload.arguments, node.workload.out)
    part = host.parts[0]
    part = Part(replace(part.workload, then=(*part.workload.then, step)), part.inputs + others)
    return _Made(Group(node.name, node.out, (part,)), (host.name,))


def _can_join(host: Group, node: Node) -> bool:
    """Whether the node computes element by element what one kernel gives."""
    shapes = {tensor.shape for _, tensor in node.workload.tensors}
    served = not host.unserved and not node.unserved and len(host.parts) == 1 and takes_steps(host.parts[0].workload.op)
    return served and shapes == {node.out.shape} and host.out.layout == node.out.layout and len(node.out.shape) in (2, 4)
