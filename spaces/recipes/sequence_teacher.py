"""A recurrent teacher of a network that sees one window at a time (Chan, Ke and Lane, "Transferring knowledge from a RNN to a DNN",
Interspeech 2015 [6]).

The teacher reads an utterance from end to end and gives each frame a distribution over the classes: a soft alignment, which says how much
each frame tells, where labels say the same of all. It is trained on the training utterances alone, by their label at every frame. The
student is given the windows one by one and learns, the mean over frames,

    loss = (1 - a) KL(teacher of the frame || student of the window about it) + a cross entropy

The recurrent network is not deployed. It is the same one for all students of the same utterances.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from spaces.gene import check_choice, check_range
from spaces.recipe import Batch, Hooks, Recipe, Run, Sequences

UNITS, BATCH, RATE, CLIP, SEED = 64, 32, 3e-3, 1.0, 0


@dataclass(frozen=True)
class SequenceTeacher(Recipe):
    """Learns, frame by frame, from a recurrent network that has read the whole sequence.

    `cell`: "bilstm", which reads it both ways, or "gru", from first to last; `layers` of it; `labels`: a, the share of the cross entropy;
    `epochs` of the recurrent network.
    """

    SOURCE: ClassVar[str] = "Chan et al., 2015 [6]"
    GAIN: ClassVar[str] = "accuracy"
    needs_sequences: ClassVar[bool] = True
    cell: str = "bilstm"
    layers: int = 1
    labels: float = 0.0
    epochs: int = 10

    def __post_init__(self):
        check_choice("sequence_teacher cell", self.cell, ("bilstm", "gru"))
        check_choice("sequence_teacher layers", self.layers, (1, 2))
        check_range("sequence_teacher labels", self.labels, 0, 1)
        check_range("sequence_teacher epochs", self.epochs, 1, 1000)

    def hooks(self, run: Run) -> Hooks:
        self.check(run.sequences, run.augment)
        return _Aligned(self, run.sequences, run.example.device)

    def loss(self, batch: Batch, taught):
        """The formula above, for the teacher's log-posteriors [N, classes] of the same frames."""
        from torch.nn import functional

        soft = functional.kl_div(batch.logits.log_softmax(1), taught, reduction="batchmean", log_target=True)
        return (1 - self.labels) * soft + self.labels * batch.cross_entropy()

    def teacher(self, sequences: Sequences, device):
        """The recurrent network, trained."""
        return _trained(self.cell, self.layers, self.epochs, sequences.features, sequences.labels, sequences.classes, device)


def log_posteriors(teacher, features):
    """log p of each frame of utterances [U, T, B]: float32 [U, T, classes]."""
    return teacher["classes"](teacher["recurrent"](features)[0]).log_softmax(2)


# All candidates of a study learn from one teacher, before and after compression. Tensors are told apart by identity.
@lru_cache(maxsize=4)
def _trained(cell: str, layers: int, epochs: int, features, labels, classes: int, device):
    import torch
    from torch.nn.utils import clip_grad_norm_

    teacher = _recurrent(cell, layers, features.shape[2], classes).to(device)
    optimiser, generator = torch.optim.AdamW(teacher.parameters(), RATE), torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        for chosen in torch.randperm(len(features), generator=generator).split(BATCH):
            log_p = log_posteriors(teacher, features[chosen].to(device))
            wanted = labels[chosen].to(device)[:, None, None].expand(-1, log_p.shape[1], 1)
            optimiser.zero_grad()
            (-log_p.gather(2, wanted).mean()).backward()
            clip_grad_norm_(teacher.parameters(), CLIP)
            optimiser.step()
    return teacher.eval()


def _recurrent(cell: str, layers: int, bands: int, classes: int):
    import torch
    from torch import nn

    kind, ways = (nn.LSTM, 2) if cell == "bilstm" else (nn.GRU, 1)
    # Whether a teacher is trained or remembered, the random numbers that follow are the same.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return nn.ModuleDict({"recurrent": kind(bands, UNITS, layers, batch_first=True, bidirectional=ways == 2),
                              "classes": nn.Linear(ways * UNITS, classes)})


class _Aligned(Hooks):
    """Keeps the teacher's log-posteriors [U, T, classes] of all training frames, which nothing changes."""

    def __init__(self, recipe: SequenceTeacher, sequences: Sequences, device):
        self.recipe, self.sequences, self.device, self.posteriors = recipe, sequences, device, None

    def on_epoch(self, epoch: int) -> None:
        import torch

        if self.posteriors is None:
            teacher = self.recipe.teacher(self.sequences, self.device)
            with torch.no_grad():
                parts = [log_posteriors(teacher, part.to(self.device)) for part in self.sequences.features.split(BATCH)]
            self.posteriors = torch.cat(parts).cpu()

    def loss(self, batch: Batch):
        taught = self.posteriors[self.sequences.utterance[batch.samples], self.sequences.frame[batch.samples]]
        return self.recipe.loss(batch, taught.to(batch.logits.device))

    def state(self) -> dict:
        return {"posteriors": self.posteriors}

    def restore(self, state: dict) -> None:
        self.posteriors = state["posteriors"]
