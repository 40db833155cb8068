"""Recipes: ways to train a network. A recipe gives the loss; it may ask for a teacher's logits."""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import Gene


@dataclass(frozen=True)
class Recipe(Gene):
    """A recipe gene; the training loop calls `loss` for every batch."""

    KIND: ClassVar[str] = "recipes"
    GAIN: ClassVar[str]
    needs_teacher: ClassVar[bool] = False

    def loss(self, logits, labels, teacher_logits):
        """A scalar. logits, teacher_logits: float [N, classes]; labels: int64 [N]."""
        raise NotImplementedError
