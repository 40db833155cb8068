"""What the ops of a frozen network compute with: their weights, once they are unpacked."""

from dataclasses import dataclass

import torch
from torch import fx


@dataclass(frozen=True)
class Read:
    """An op with weights, as it ran: the `path` of its layer, the weights it read, what it gave."""

    path: str
    weight: torch.Tensor
    out: torch.Tensor


@torch.no_grad()
def reads(frozen: fx.GraphModule, image: torch.Tensor) -> list[Read]:
    """The ops with weights, in order, of one run on an image [1, C, H, W]."""
    recorder = _Recorder(frozen)
    recorder.run(image)
    return recorder.found


class _Recorder(fx.Interpreter):
    def __init__(self, frozen: fx.GraphModule):
        super().__init__(frozen)
        self.found: list[Read] = []

    def run_node(self, n: fx.Node):
        out = super().run_node(n)
        schema = getattr(n.target, "_schema", None)
        names = [argument.name for argument in schema.arguments] if schema else []
        if "weight" in names and "bias" in names:
            bias = n.args[names.index("bias")]
            weight = self.env[n.args[names.index("weight")]]
            self.found.append(Read(bias.target.removesuffix(".bias"), weight, out))
        return out
