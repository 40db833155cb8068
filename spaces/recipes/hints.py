"""Hints: a deep, thin student first learns a layer in the middle of its teacher (FitNets: Romero et al., 2015 [2]).

Stage 1 trains the student up to its guided layer, and a regressor that makes its maps comparable with the teacher's hint layer
(equation 3): 1/2 ||hint(x) - regressor(guided(x))||^2, summed over channels, the mean over images and places. The regressor is a valid
convolution that brings the maps to the hint's size, and is then thrown away. It begins at zero: a random one would first push the
student about, to the point where its layers die. Stage 2, on a schedule of its own, trains the whole student by (equation 2)

    (cross entropy + lambda T^2 KL(softmax(z_teacher / T) || softmax(z_student / T))) / (1 + lambda)

with lambda falling in even steps to 1, so that easy images, of which the teacher is sure, count most at first. T^2 is that of Hinton et
al. (2015 [1]); the divisor keeps the loss's size while lambda falls.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import SpaceError, check_range
from spaces.recipe import Batch, Hooks, Recipe, Run
from spaces.recipes.soft_targets import SoftTargets


@dataclass(frozen=True)
class Hints(Recipe):
    """Learns a teacher's middle layer, then its softened outputs.

    `depth`: which layer, as a share of all; `stage`: the share of the epochs that are spent on it; `t`: the temperature of the outputs;
    `weight`: how much they count at first.
    """

    SOURCE: ClassVar[str] = "Romero et al., 2015 [2]"
    GAIN: ClassVar[str] = "accuracy"
    needs_teacher: ClassVar[bool] = True
    depth: float = 0.5
    stage: float = 0.2
    t: float = 3.0
    weight: float = 4.0

    def __post_init__(self):
        check_range("hints depth", self.depth, 0.1, 0.9)
        check_range("hints stage", self.stage, 0, 0.9)
        check_range("hints t", self.t, 0.1, 100)
        check_range("hints weight", self.weight, 1, 100)

    def hooks(self, run: Run) -> Hooks:
        return _Guided(self, run)

    def distilled(self, batch: Batch, weight: float):
        """Equation 2."""
        return SoftTargets(self.t, weight / (1 + weight)).loss(batch)


class _Guided(Hooks):
    def __init__(self, recipe: Hints, run: Run):
        self.recipe, self.epochs, self.first = recipe, run.epochs, run.first_stage(recipe.stage)
        self.epoch, self.maps, self.handles = 0, {}, []
        if self.first:
            guided = _middle(run.network, recipe.depth)[0]
            mine = _map_of(run.network, guided, run.example)
            hint, theirs = _hint(run, recipe.depth, mine)
            self.regressor = _regressor(mine, theirs).to(mine.device)
            self.handles = [layer.register_forward_hook(self._keep(name)) for name, layer in (("guided", guided), ("hint", hint))]

    def _keep(self, name: str):
        def hook(layer, inputs, out):
            self.maps[name] = out
        return hook

    def stages(self) -> tuple[int, ...]:
        return (self.first,)

    def parameters(self) -> list:
        return list(self.regressor.parameters()) if self.first else []

    def on_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if epoch >= self.first:
            self.close()

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def loss(self, batch: Batch):
        if self.epoch < self.first:
            return 0.5 * (self.maps["hint"] - self.regressor(self.maps["guided"])).square().sum(1).mean()
        done = (self.epoch - self.first) / max(1, self.epochs - self.first - 1)
        return self.recipe.distilled(batch, self.recipe.weight + done * (1 - self.recipe.weight))

    def state(self) -> dict:
        return dict(self.regressor.state_dict()) if self.first else {}

    def restore(self, state: dict) -> None:
        if self.first:
            self.regressor.load_state_dict(state)


def _middle(network, depth: float) -> list:
    """The layers from that share of a network's on, but the last."""
    layers = list(getattr(network, "layers", network.children()))
    return layers[max(0, min(len(layers) - 2, int(depth * len(layers)))):-1]


def _hint(run: Run, depth: float, guided):
    """The teacher's first layer from that share on whose maps the guided ones can be brought to, and its maps."""
    for layer in _middle(run.teacher, depth):
        maps = _map_of(run.teacher, layer, run.example)
        if maps is not None and maps.dim() == guided.dim() and all(a <= b for a, b in zip(maps.shape[2:], guided.shape[2:])):
            return layer, maps
    raise SpaceError(f"hints: no layer of the teacher that can be watched, from depth {depth:g} on, has maps as small as the student's"
                     f" {'x'.join(map(str, guided.shape[2:]))}")


def _map_of(network, layer, example):
    """What a layer gives of the example; None if it does not run as a module, as those of an exported program do not."""
    import torch

    found = []
    handle = layer.register_forward_hook(lambda layer, inputs, out: found.append(out))
    try:
        with torch.no_grad():
            network.eval()(example)
    finally:
        handle.remove()
    return found[0] if found else None


def _regressor(guided, hint):
    from torch import nn

    if guided.dim() == 2:
        made = nn.Linear(guided.shape[1], hint.shape[1])
    else:
        made = nn.Conv2d(guided.shape[1], hint.shape[1], [a - b + 1 for a, b in zip(guided.shape[2:], hint.shape[2:])])
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made
