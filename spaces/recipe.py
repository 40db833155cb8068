"""Recipes: ways to train a network. A recipe hooks into the training loop, which knows none of them.

A gene says what to do; `hooks` begins one run of it and gives an object that holds what the run needs, from the teacher's
features to the epoch at which something ends.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from spaces.gene import Gene, SpaceError


@dataclass(frozen=True)
class Sequences:
    """Utterances of which images are windows: `features` float32 [U, T, B], normalised as the images are, and `labels` int64 [U], numbers
    below `classes`. The frame in the middle of image i is features[utterance[i], frame[i]], both int64 [N]."""

    features: Any
    labels: Any
    classes: int
    utterance: Any
    frame: Any

    def at(self, chosen) -> Self:
        """The same utterances, and those of the images that an index chooses."""
        return replace(self, utterance=self.utterance[chosen], frame=self.frame[chosen])


@dataclass(frozen=True)
class Run:
    """One training run as it begins: `network` in training; `teacher` in eval mode, or None; `example`: some hundred normalised
    training images; `epochs` and `steps` of the whole run; `example_labels`: int64, the classes of those images; `sequences`: those that
    the training images are windows of, or None; `augment`: the names of what changes images as they are shown."""

    network: Any
    teacher: Any
    example: Any
    epochs: int
    steps: int
    example_labels: Any = None
    sequences: Sequences | None = None
    augment: tuple[str, ...] = ()

    @property
    def prepared(self) -> bool:
        """Whether compressions are in place: the network is a graph then, whose blocks are no modules that hooks could watch."""
        from torch import fx

        return isinstance(self.network, fx.GraphModule)

    def first_stage(self, share: float) -> int:
        """The epochs of a first stage, a share of all, that leaves at least one. None once compressions are in place: it is behind then."""
        return 0 if self.prepared else min(round(share * self.epochs), self.epochs - 1)


@dataclass(frozen=True)
class Batch:
    """One batch: labels int64 [N], or probabilities [N, classes] where images are mixed; logits and teacher_logits (None without
    a teacher) float [N, classes]; `smoothing`: the share of each label that is spread over all classes; `images`: normalised,
    [N, C, H, W]; `samples`: int64 [N], which training images they are."""

    labels: Any
    logits: Any
    teacher_logits: Any = None
    smoothing: float = 0.0
    images: Any = None
    samples: Any = None

    def cross_entropy(self):
        """The loss against the labels."""
        from torch.nn import functional

        return functional.cross_entropy(self.logits, self.labels, label_smoothing=self.smoothing)


class Hooks:
    """What a recipe does in one run; the base changes nothing."""

    def stages(self) -> tuple[int, ...]:
        """Epochs at which something else begins to be learnt: the schedule begins anew there, warm-up and momentum included."""
        return ()

    def rate(self, epoch: int) -> float:
        """The share of the run's learning rate in the stage that begins at an epoch. Those of several recipes are multiplied."""
        return 1.0

    def parameters(self) -> list:
        """Parameters beside the network's that are trained and then forgotten."""
        return []

    def loss(self, batch: Batch):
        """A scalar in place of the cross entropy; None for none of its own. Losses of several recipes are averaged."""
        return None

    def penalty(self):
        """A scalar that is added to the loss."""
        return 0.0

    def on_epoch(self, epoch: int) -> None:
        """Before each epoch, the first being 0."""

    def on_step(self, step: int) -> None:
        """After the optimiser's step, the first being 0."""

    def close(self) -> None:
        """When the run has ended, however it did."""

    def state(self) -> dict[str, Any]:
        """Tensors by name from which `restore` goes on in a new process."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes `state` back."""


@dataclass(frozen=True)
class Recipe(Gene):
    """A recipe gene."""

    KIND: ClassVar[str] = "recipes"
    GAIN: ClassVar[str]
    needs_teacher: ClassVar[bool] = False
    needs_sequences: ClassVar[bool] = False

    def check(self, sequences: Sequences | None, augment: tuple[str, ...]) -> None:
        """SpaceError if it cannot learn from images that are windows of these sequences (None: of none), changed in these ways."""
        if self.needs_sequences and sequences is None:
            raise SpaceError(f'{self.name} learns from sequences, and the images are windows of none; give data.source = "frames"')
        if self.needs_sequences and augment:
            raise SpaceError(f"{self.name} learns from frames as they are, and data.augment changes them by {', '.join(augment)}; leave it"
                             " out")

    def hooks(self, run: Run) -> Hooks:
        """The recipe's part in a run that begins."""
        raise NotImplementedError
