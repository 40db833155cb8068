"""Mimicking an ensemble: a student regresses the logits of several teachers, standardised by class (Urban et al., 2017 [5], section 2.1).

loss = 1/2 sum_c ((z_student,c - z_teacher,c) / s_c)^2, the mean over images, with z_teacher the mean of the ensemble's logits and s_c their
deviation over training images: each class counts alike, however far its logits spread. The teachers see the student's own augmented
images. The paper's student gives standardised logits; here it gives logits, which are deployed as they are.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.recipe import Batch, Hooks, Recipe, Run


@dataclass(frozen=True)
class EnsembleMimic(Recipe):
    """Regresses the standardised mean logits of a study's teachers: `[teacher]` says how many `members` there are."""

    SOURCE: ClassVar[str] = "Urban et al., 2017 [5]"
    GAIN: ClassVar[str] = "accuracy"
    needs_teacher: ClassVar[bool] = True

    def hooks(self, run: Run) -> Hooks:
        return _Standardised(run)


class _Standardised(Hooks):
    def __init__(self, run: Run):
        import torch

        with torch.no_grad():
            self.deviation = run.teacher(run.example).std(0, unbiased=False).clamp(min=1e-6)

    def loss(self, batch: Batch):
        return 0.5 * ((batch.logits - batch.teacher_logits) / self.deviation).square().sum(1).mean()
