"""One network for all candidates of a space: they share weights (`spaces.sharing`), trained once, from which each takes its part.

Each step trains the widest, the narrowest and two random candidates (the sandwich rule: Yu and Huang, 2019), the widest by the
labels, the others by these and by its outputs (in-place distillation), half each. Batch norms use the statistics of the batch; a
candidate that inherits weights has its own, which are taken anew.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset
from evaluators.training.loop import train, warm
from evaluators.training.schedule import Schedule
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import SpaceError
from spaces.recipe import Batch, Hooks, Run
from spaces.sharing import Sharing
from spaces.space import Space

RANDOM, TRIES, WARM_BATCHES = 2, 20, 20


class Supernet(nn.Module):
    """`forward` computes the candidate that `choose` named last."""

    def __init__(self, space: Space, input_shape: tuple[int, int, int], seed: int):
        super().__init__()
        self.sharing, generator = Sharing(space, input_shape), torch.Generator().manual_seed(seed)
        self._keys = {key: f"w{number}" for number, key in enumerate(self.sharing.shapes)}
        self.weights = nn.ParameterDict({self._keys[key]: nn.Parameter(_first(key, shape, generator))
                                         for key, shape in self.sharing.shapes.items()})
        self._networks: dict[str, tuple[nn.Module, dict]] = {}
        self._chosen = ""

    def choose(self, candidate: Candidate) -> None:
        """The candidate of the next forward pass. SpaceError if it cannot be built."""
        text = str(candidate)
        if text not in self._networks:
            self._networks[text] = build(candidate, self.sharing.input_shape).train(), self.sharing.parts(candidate)
        self._chosen = text

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        network, _ = self._networks[self._chosen]
        return torch.func.functional_call(network, self._parts(), (images,))

    def inherited(self, candidate: Candidate) -> nn.Module:
        """A network of its own with the candidate's part of the weights."""
        self.choose(candidate)
        network = build(candidate, self.sharing.input_shape)
        with torch.no_grad():
            for name, value in self._parts().items():
                network.get_parameter(name).copy_(value)
        return network

    def _parts(self) -> dict[str, torch.Tensor]:
        _, parts = self._networks[self._chosen]
        return {name: part.of(self.weights[self._keys[part.key]]) for name, part in parts.items()}


def _first(key: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Random weights (He et al., 2015), norms that change nothing, biases of zero."""
    if len(shape) > 1:
        return nn.init.kaiming_normal_(torch.empty(shape), nonlinearity="relu", generator=generator)
    return torch.full(shape, float(key.endswith(".weight")))


@dataclass(frozen=True)
class _Sandwich:
    """The recipe of a supernet: which candidates a step trains, and by what."""

    supernet: Supernet
    seed: int

    def hooks(self, run: Run) -> Hooks:
        return _Sandwiched(self.supernet, torch.Generator().manual_seed(self.seed))


@dataclass
class _Sandwiched(Hooks):
    """`others`: those that learn from the widest in this step; `before`: the random numbers' state from which they were drawn."""

    supernet: Supernet
    generator: torch.Generator
    others: list[Candidate] = field(default_factory=list)
    before: torch.Tensor | None = None

    def on_epoch(self, epoch: int) -> None:
        if epoch == 0:
            self._draw()

    def on_step(self, step: int) -> None:
        self._draw()

    def loss(self, batch: Batch):
        soft = batch.logits.detach().softmax(1)
        loss = batch.cross_entropy()
        for candidate in self.others:
            self.supernet.choose(candidate)
            logits = self.supernet(batch.images)
            loss = loss + (nn.functional.cross_entropy(logits, soft) + nn.functional.cross_entropy(logits, batch.labels)) / 2
        return loss / (1 + len(self.others))

    def state(self) -> dict:
        return {"random": self.before}

    def restore(self, state: dict) -> None:
        self.generator.set_state(state["random"])
        self._draw()

    def _draw(self) -> None:
        """The next step's candidates, the widest chosen for the loop's own forward pass."""
        self.before, space = self.generator.get_state(), self.supernet.sharing.space
        widest, narrowest = (_drawn(self.supernet, space, self.generator, end) for end in (max, min))
        self.others = [narrowest, *(_drawn(self.supernet, space, self.generator) for _ in range(RANDOM))]
        self.supernet.choose(widest)


def _drawn(supernet: Supernet, space: Space, generator: torch.Generator, end=None) -> Candidate:
    """A random uncompressed candidate; with `end` (min or max) all its numbers are the least or the greatest, its blocks random."""
    def pick(name: str, options: tuple):
        if name.endswith(".compression") or name == "recipe":
            return options[0]
        if end is not None and not isinstance(options[0], str):
            return end(options)
        return options[int(torch.randint(len(options), (1,), generator=generator))]
    for _ in range(TRIES):
        candidate = dense(space.sample(pick))
        try:
            supernet.choose(candidate)
        except SpaceError:  # a candidate that cannot be built
            continue
        return candidate
    raise SpaceError(f"{TRIES} random candidates of the space could not be built")


def dense(candidate: Candidate) -> Candidate:
    """The candidate without compressions and recipes."""
    return Candidate(tuple(replace(layer, compressions=()) for layer in candidate.layers))


def train_supernet(space: Space, dataset: Dataset, schedule: Schedule, seed: int, folder: Path | None = None) -> Supernet:
    """The trained supernet. `folder`: where training is kept, so that a killed run goes on from there."""
    supernet = Supernet(space, dataset.shape, seed)
    kept = Checkpoint(folder / "supernet.safetensors", f"{space} {schedule} {seed}") if folder else None
    train(supernet, dataset, schedule, seed, [_Sandwich(supernet, seed)], checkpoint=kept)
    return supernet


def inherit(supernet: Supernet, candidate: Candidate, dataset: Dataset, batch: int, seed: int) -> nn.Module:
    """The candidate's network, uncompressed, with weights of the supernet and batch norms of its own statistics."""
    network = supernet.inherited(dense(candidate))
    warm(network, dataset, batch, seed, WARM_BATCHES)
    return network
