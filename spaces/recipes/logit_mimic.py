"""Mimicking logits: a student regresses what its teacher gives before the softmax (Ba and Caruana, 2014 [4], equation 2).

loss = 1/2 ||z_student - z_teacher||^2, the mean over images. Logits hold what a softmax hides: how sure the teacher is among the classes
that it rules out. With `centre` the teacher's logits have a mean of zero over the classes, which changes no decision.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import check_choice
from spaces.recipe import Batch, Hooks, Recipe, Run


@dataclass(frozen=True)
class LogitMimic(Recipe):
    """Regresses a teacher's logits; `centre`: whether their mean over the classes is taken off."""

    SOURCE: ClassVar[str] = "Ba and Caruana, 2014 [4]"
    GAIN: ClassVar[str] = "accuracy"
    needs_teacher: ClassVar[bool] = True
    centre: str = "yes"

    def __post_init__(self):
        check_choice("logit_mimic centre", self.centre, ("yes", "no"))

    def hooks(self, run: Run) -> Hooks:
        return _Mimicking(self)

    def loss(self, batch: Batch):
        """The formula above."""
        wanted = batch.teacher_logits
        if self.centre == "yes":
            wanted = wanted - wanted.mean(1, keepdim=True)
        return 0.5 * (batch.logits - wanted).square().sum(1).mean()


class _Mimicking(Hooks):
    def __init__(self, recipe: LogitMimic):
        self.loss = recipe.loss
