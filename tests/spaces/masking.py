"""Networks in which channels are masked instead of removed: what removal is compared with.

Every channel of every tensor of a network's graph has a name. Layers that mix channels give new names, all else hands names on, and
where tensors are added or multiplied channel by channel, the two names become one. Masking a channel zeroes it wherever its name stands.
"""

import operator

import torch
from torch import fx, nn

MIXES, JOINS = (nn.Conv2d, nn.Linear), (operator.add, operator.mul)


class Masked(fx.Interpreter):
    """Runs a traced network with the output channels of a layer, and those with their names, at zero."""

    def __init__(self, network: fx.GraphModule, path: str, channels: list[int], image: torch.Tensor):
        super().__init__(network.eval())
        self.parent, self.names, self.gone = {}, {}, set()
        with torch.no_grad():
            self.run(image)  # which names the channels
        node = next(node for node in network.graph.nodes if node.target == path)
        self.gone = {self.root(self.names[node][channel]) for channel in channels}

    def root(self, name):
        while name in self.parent:
            name = self.parent[name]
        return name

    def run_node(self, n: fx.Node):
        result = super().run_node(n)
        if n.op == "output":
            return result
        if n not in self.names:
            self.names[n] = self._named(n, result.shape[1])
        kept = torch.tensor([self.root(name) not in self.gone for name in self.names[n]])
        return result * kept.view(1, -1, *[1] * (result.dim() - 2))

    def _named(self, node: fx.Node, count: int) -> list:
        given = [self.names[source] for source in node.all_input_nodes]
        module = self.module.get_submodule(node.target) if node.op == "call_module" else None
        if not given or isinstance(module, MIXES) and getattr(module, "groups", 1) == 1:
            return [(node, channel) for channel in range(count)]
        if node.target is torch.cat:
            return sum(given, [])
        if node.target in JOINS:
            self._join(*given)
        names = given[0]
        assert module is not None or node.target in JOINS, f"what {node.target} does to channels"
        assert count % len(names) == 0
        return [name for name in names for _ in range(count // len(names))]

    def _join(self, first: list, second: list) -> None:
        for one, other in zip(first, second, strict=True):
            one, other = self.root(one), self.root(other)
            if one != other:
                self.parent[one] = other
