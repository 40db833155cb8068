"""Layers whose kernels do the op before them as well: unpack their weights, or gate their image."""

from collections.abc import Collection
from dataclasses import replace

from backends.gating import gated_layers
from backends.graph import Graph, Joint
from backends.unpacking import packed_layers


def joints(graph: Graph) -> dict[str, Joint]:
    """The layers that may, by their node's name."""
    return gated_layers(graph) | packed_layers(graph)


def with_joined(graph: Graph, layers: Collection[str]) -> Graph:
    """The graph in which the named layers do."""
    chosen = {name: joint for name, joint in joints(graph).items() if name in layers}
    gone = {joint.gone for joint in chosen.values()}
    nodes = [replace(node, inputs=chosen[node.name].inputs, workload=chosen[node.name].workload) if node.name in chosen else node
             for node in graph.nodes if node.name not in gone]
    return replace(graph, nodes=tuple(nodes))
