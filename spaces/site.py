"""Where a compression acts: one layer of one network, and what calibration images show there.

`curvature` is the diagonal of the generalised Gauss-Newton matrix of the mean cross entropy (Schraudolph, 2002; for its diagonal Dangel et
al., "BackPACK", 2020), which is the Hessian's where the network is linear. With p the softmax of an image's logits z,

    h_k = mean over images of sum_c (d (s_c . z) / d w_k)^2,    s_c = sqrt(p_c) (e_c - p)

which adds up to what p (1 - p) gives in the output layer of LeCun et al. (1990). A weight that a convolution uses at many places is
one number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import fx, nn
from torch.nn import functional

BATCH = 128
COLUMNS = 16  # of the softmax's matrix that are followed back one by one; of more classes, so many random sums of columns


@dataclass(frozen=True)
class Calibration:
    """Training images on which compressions look at a network: float32 [N, C, H, W], normalised, and their labels int64 [N]."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def unlabelled(cls, images: torch.Tensor) -> Self:
        """Of images whose classes are not known: all have the first."""
        return cls(images, torch.zeros(len(images), dtype=torch.int64))

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The images and labels, some at a time."""
        return zip(self.images.split(BATCH), self.labels.split(BATCH))


@dataclass(frozen=True)
class Site:
    """The `layer` at `path` of a traced `network`, which is looked at in eval mode."""

    layer: nn.Module
    path: str
    network: fx.GraphModule
    calibration: Calibration

    @cached_property
    def inputs(self) -> torch.Tensor:
        """What the layer is given, [N, ...]."""
        return self._seen(lambda given, out, logits, labels: given)

    @cached_property
    def outputs(self) -> torch.Tensor:
        """What the layer gives, [N, ...]."""
        return self._seen(lambda given, out, logits, labels: out)

    @cached_property
    def maps(self) -> torch.Tensor:
        """The layer's outputs as the next layers read them, behind its batch norm and activation, [N, ...]."""
        return torch.cat([behind.detach() for behind, _, _ in self._behind()])

    @cached_property
    def map_gradients(self) -> torch.Tensor:
        """The gradient of each image's cross entropy with respect to its `maps`, [N, ...]."""
        return torch.cat([torch.autograd.grad(functional.cross_entropy(logits, labels, reduction="sum"), behind)[0]
                          for behind, logits, labels in self._behind()])

    @cached_property
    def curvature(self) -> torch.Tensor:
        """The diagonal above, of the shape of the layer's weights."""
        sums = self._seen(lambda given, out, logits, labels: self._squares(given, out, logits), together=torch.stack).sum(0)
        return sums.view(self.layer.weight.shape) / len(self.calibration.labels)

    def _squares(self, given: torch.Tensor, out: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The batch's sum of the squares above."""
        patches, total = unfolded(self.layer, given.detach()), 0
        for column in _columns(logits.detach().softmax(1)):
            back, = torch.autograd.grad((logits * column).sum(), out, retain_graph=True)
            back = back.reshape(len(back), patches.shape[1], -1, patches.shape[3])
            total = total + _sum_of_squares(back, patches)
        return total

    def _seen(self, of: Callable, together=torch.cat) -> torch.Tensor:
        """What `of` makes of the layer's input and output, the logits and the labels of each batch."""
        kept = []
        hook = self.layer.register_forward_hook(lambda module, arguments, out: kept.append((arguments[0], out)))
        try:
            found = []
            for images, labels in self.calibration.batches():
                kept.clear()
                logits = self.network.eval()(images)
                found.append(of(*kept[0], logits, labels).detach())
        finally:
            hook.remove()
        return together(found)

    def _behind(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """By batch the maps, the logits and the labels."""
        watch = _Watch(self.network.eval(), _last(self.network, self.path))
        for images, labels in self.calibration.batches():
            logits = watch.run(images)
            yield watch.kept, logits, labels


class _Watch(fx.Interpreter):
    """Runs a graph and keeps what one node gives."""

    def __init__(self, network: fx.GraphModule, node: fx.Node):
        super().__init__(network)
        self.node, self.kept = node, None

    def run_node(self, n: fx.Node):
        result = super().run_node(n)
        if n is self.node:
            self.kept = result
        return result


def _last(network: fx.GraphModule, path: str) -> fx.Node:
    """The last node behind a layer of those that change its channels one by one: its batch norm, its activation."""
    node = next(node for node in network.graph.nodes if node.target == path)
    while len(node.users) == 1:
        user, = node.users
        module = network.get_submodule(user.target) if user.op == "call_module" else None
        if not isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.ReLU6 | nn.Hardswish | nn.SiLU | nn.Identity):
            break
        node = user
    return node


def _columns(p: torch.Tensor) -> Iterator[torch.Tensor]:
    """Vectors [N, classes] whose squared products with anything add up to those with all the columns s_c, exactly or on average."""
    count, classes = p.shape
    if classes <= COLUMNS:
        mixtures = torch.eye(classes).unsqueeze(1).expand(-1, count, -1)
    else:
        generator = torch.Generator().manual_seed(0)
        mixtures = (torch.randint(2, (COLUMNS, count, classes), generator=generator) * 2.0 - 1) / COLUMNS**0.5
    for mixture in mixtures:
        weighted = mixture * p.sqrt()
        yield weighted - p * weighted.sum(1, keepdim=True)


def _sum_of_squares(back: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Over images, the squares of the sums over places of products: [groups, outputs, weights]."""
    if patches.shape[3] == 1:  # of one place, the square of a product is a product of squares: no numbers for each image and weight
        return torch.einsum("ngol,ngil->goi", back.square(), patches.square())
    return torch.einsum("ngol,ngil->ngoi", back, patches).square().sum(0)


def unfolded(layer: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """The inputs that meet each weight of an output: [N, groups, weights, places]."""
    if isinstance(layer, nn.Linear):
        return given[:, None, :, None]
    patches = functional.unfold(given, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.view(len(given), layer.groups, -1, patches.shape[-1])
