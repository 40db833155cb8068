"""One network for all candidates of a space: they share weights (`spaces.sharing`), trained once, from which each takes its part.

Each step trains the anchor, a narrowest and two random candidates (the sandwich rule: Yu and Huang, 2019), the anchor by the labels,
the others by these and by its outputs (in-place distillation), half each; gradients are summed. With `shrinking`, a share of the steps,
numbers open one after another in these, the greatest first (progressive shrinking: Cai et al., 2020). The anchor is the widest candidate of
the blocks that stand first in each stage. It is the same one in all steps: where blocks mix at a position, a teacher of random blocks
would teach little for long. Batch norms use the statistics of the batch; a candidate that inherits weights has its own, which are
taken anew.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset
from evaluators.training.loop import train, warm
from evaluators.training.schedule import Schedule
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import SpaceError, load
from spaces.norms import norms_of
from spaces.recipe import Batch, Hooks, Run
from spaces.sharing import Part, Piece, Sharing
from spaces.space import Space
from spaces.trace import trace

RANDOM, TRIES, WARM_BATCHES = 2, 20, 20


class Supernet(nn.Module):
    """`forward` computes the candidate that `choose` named last."""

    def __init__(self, space: Space, input_shape: tuple[int, int, int], seed: int):
        super().__init__()
        self.sharing = Sharing(replace(space, compression={}, recipes=("none",)), input_shape)
        generator = torch.Generator().manual_seed(seed)
        self.anchor = anchor(space)
        self._keys = {key: f"w{number}" for number, key in enumerate(self.sharing.shapes)}
        self.weights = nn.ParameterDict({self._keys[key]: nn.Parameter(_first(key, shape, generator))
                                         for key, shape in self.sharing.shapes.items()})
        self.choose(self.anchor)

    def choose(self, candidate: Candidate) -> None:
        """The candidate of the next forward pass. SpaceError if it cannot be built."""
        self._chosen: list[Piece] = self.sharing.pieces(candidate)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for piece in self._chosen:
            images = torch.func.functional_call(_beside(piece.module, images), self._of(piece.parts), (images,))
        return images

    @torch.no_grad()
    def inherited(self, candidate: Candidate) -> nn.Module:
        """A network of its own with the candidate's part of the weights. In front of batch norms their size changes nothing of what it
        computes, but how far a step turns them (van Laarhoven, 2017): they get the size that untrained ones have on average, so that rates
        which suit those suit these."""
        network = build(candidate, self.sharing.input_shape)
        for name, value in self._of(self.sharing.parts(candidate)).items():
            network.get_parameter(name).copy_(value)
        for layer in map(network.get_submodule, norms_of(trace(network))):
            if isinstance(layer, nn.Conv2d):
                # torch draws weights evenly up to 1 / sqrt(inputs), of which a third of the square is the variance.
                layer.weight.mul_((len(layer.weight) / 3) ** 0.5 / layer.weight.norm())
        return network

    def _of(self, parts: dict[str, Part]) -> dict[str, torch.Tensor]:
        return {name: part.of(self.weights[self._keys[part.key]]) for name, part in parts.items()}


def _first(key: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Random weights (He et al., 2015), norms that change nothing, biases of zero."""
    if len(shape) > 1:
        return nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu", generator=generator)
    return torch.full(shape, float(key.endswith(".weight")))


def _beside(module: nn.Module, images: torch.Tensor) -> nn.Module:
    """The module with what it holds besides parameters where the images are."""
    return module if all(buffer.device == images.device for buffer in module.buffers()) else module.to(images.device)


@dataclass(frozen=True)
class _Sandwich:
    """The recipe of a supernet: which candidates a step trains, and by what."""

    supernet: Supernet
    seed: int
    shrinking: float

    def hooks(self, run: Run) -> Hooks:
        return _Sandwiched(self.supernet, torch.Generator().manual_seed(self.seed), round(self.shrinking * run.steps))


@dataclass
class _Sandwiched(Hooks):
    """The loop's own forward pass computes the anchor. `opening`: the steps in which numbers open."""

    supernet: Supernet
    generator: torch.Generator
    opening: int
    step: int = 0

    def loss(self, batch: Batch):
        soft, loss = batch.logits.detach().softmax(1), batch.cross_entropy()
        for end in (min, *[None] * RANDOM):
            self.supernet.choose(self._drawn(end))
            logits = self.supernet(batch.images)
            loss = loss + (nn.functional.cross_entropy(logits, soft) + nn.functional.cross_entropy(logits, batch.labels)) / 2
        self.supernet.choose(self.supernet.anchor)
        return loss

    def on_step(self, step: int) -> None:
        self.step = step + 1

    def state(self) -> dict:
        return {"random": self.generator.get_state(), "step": torch.tensor(self.step)}

    def restore(self, state: dict) -> None:
        self.generator.set_state(state["random"])
        self.step = int(state["step"])

    def _drawn(self, end) -> Candidate:
        """A random candidate that can be built; with `end` (min) all its numbers are the least, its blocks random."""
        space = self.supernet.sharing.space
        for _ in range(TRIES):
            candidate = space.sample(lambda name, options: self._picked(self._open(name, options), end))
            try:
                self.supernet.sharing.pieces(candidate)
            except SpaceError:
                continue
            return candidate
        raise SpaceError(f"{TRIES} random candidates of the space could not be built")

    def _open(self, name: str, options: tuple) -> tuple:
        """The options that have opened: of numbers what the anchor has, and the next ones."""
        if isinstance(options[0], str) or self.step >= self.opening:
            return options
        ordered = sorted(options, reverse=not name.endswith(".stride"))
        return tuple(ordered[:1 + self.step * len(options) // self.opening])

    def _picked(self, options: tuple, end):
        if end is not None and not isinstance(options[0], str):
            return end(options)
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]


def anchor(space: Space) -> Candidate:
    """The widest candidate of the first blocks: their greatest numbers, the least strides."""
    def pick(name: str, options: tuple):
        if name.endswith(".stride"):
            return min(options)
        if name.endswith(".block"):
            return next(label for label in options if not load("blocks", label.partition("#")[0]).KEEPS_WIDTH)
        return options[0] if isinstance(options[0], str) else max(options)
    return dense(space.sample(pick))


def dense(candidate: Candidate) -> Candidate:
    """The candidate without compressions and recipes."""
    return Candidate(tuple(replace(layer, compressions=()) for layer in candidate.layers))


def train_supernet(space: Space, dataset: Dataset, schedule: Schedule, seed: int, shrinking: float = 0.0,
                   folder: Path | None = None) -> Supernet:
    """The trained supernet. `folder`: where training is kept, so that a killed run goes on from there."""
    supernet = Supernet(space, dataset.shape, seed)
    kept = Checkpoint(folder / "supernet.safetensors", f"{space} {schedule} {seed} {shrinking}") if folder else None
    train(supernet, dataset, schedule, seed, [_Sandwich(supernet, seed, shrinking)], checkpoint=kept)
    return supernet


def inherit(supernet: Supernet, candidate: Candidate, dataset: Dataset, batch: int, seed: int) -> nn.Module:
    """The candidate's network, uncompressed, with weights of the supernet and batch norms of its own statistics."""
    network = supernet.inherited(dense(candidate))
    warm(network, dataset, batch, seed, WARM_BATCHES)
    return network
