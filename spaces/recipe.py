"""Recipes: ways to train a network. A recipe hooks into the training loop, which knows none of them.

A gene says what to do; `hooks` begins one run of it and gives an object that holds what the run needs, from the teacher's
features to the epoch at which something ends.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from spaces.gene import Gene


@dataclass(frozen=True)
class Run:
    """One training run as it begins: `network` in training; `teacher` in eval mode, or None; `example`: some hundred normalised
    training images; `epochs` and `steps` of the whole run; `example_labels`: int64, the classes of those images."""

    network: Any
    teacher: Any
    example: Any
    epochs: int
    steps: int
    example_labels: Any = None

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
    [N, C, H, W]."""

    labels: Any
    logits: Any
    teacher_logits: Any = None
    smoothing: float = 0.0
    images: Any = None

    def cross_entropy(self):
        """The loss against the labels."""
        from torch.nn import functional

        return functional.cross_entropy(self.logits, self.labels, label_smoothing=self.smoothing)


class Hooks:
    """What a recipe does in one run; the base changes nothing."""

    def stages(self) -> tuple[int, ...]:
        """Epochs at which something else begins to be learnt: the schedule begins anew there, warm-up and momentum included."""
        return ()

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

    def hooks(self, run: Run) -> Hooks:
        """The recipe's part in a run that begins."""
        raise NotImplementedError
