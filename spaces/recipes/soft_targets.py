"""Distillation by soft targets (Hinton, Vinyals and Dean, 2015 [1]).

loss = a T^2 KL(softmax(z_teacher / T) || softmax(z_student / T)) + (1 - a) cross entropy, the T^2 keeping
the gradients' size as T changes (section 2). The student is deployed at T = 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import check_range
from spaces.recipe import Batch, Hooks, Recipe, Run


@dataclass(frozen=True)
class SoftTargets(Recipe):
    """Learns a teacher's softened outputs: temperature `t`, share `a` of the soft loss."""

    SOURCE: ClassVar[str] = "Hinton et al., 2015 [1]"
    GAIN: ClassVar[str] = "accuracy"
    needs_teacher: ClassVar[bool] = True
    t: float = 4.0
    a: float = 0.9

    def __post_init__(self):
        check_range("soft_targets t", self.t, 0.1, 10_000)
        check_range("soft_targets a", self.a, 0, 1)

    def hooks(self, run: Run) -> Hooks:
        return _Softened(self)

    def loss(self, batch: Batch):
        """The formula above."""
        from torch.nn import functional

        soft = functional.kl_div((batch.logits / self.t).log_softmax(1), (batch.teacher_logits / self.t).log_softmax(1),
                                 reduction="batchmean", log_target=True)
        return self.a * self.t**2 * soft + (1 - self.a) * batch.cross_entropy()


class _Softened(Hooks):
    def __init__(self, recipe: SoftTargets):
        self.loss = recipe.loss
