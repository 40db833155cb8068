"""Neuron selection: a student learns the few neurons of its teacher's last hidden layer that matter (Luo et al., 2016 [7]).

Which of them matter minimises an energy over y in {0, 1}^n (equation 3):

    E(y) = sum_i phi_i y_i + lambda sum_ij psi_ij y_i y_j

phi_i is low where a neuron tells the classes apart and stays the same when images are shifted, turned or lit otherwise; psi_ij, the
absolute correlation, is high where two say the same. The minimum is sought by mean field, q_i = sigmoid(-b (phi_i + 2 lambda sum_j psi_ij
q_j)), damped, while b rises. phi here is the share of the variance that those changes cause less the share that lies between classes.
Stage 1 regresses the chosen neurons from the student's last hidden layer, by half the squared distance; stage 2, on a schedule of its
own, trains by the labels. A network with its compressions in place has been through stage 1 and goes on with stage 2.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.gene import SpaceError, check_range
from spaces.recipe import Batch, Hooks, Recipe, Run

ROUNDS, DAMPING, STEEPEST = 200, 0.5, 60.0


@dataclass(frozen=True)
class NeuronSelection(Recipe):
    """Learns the neurons of a teacher that tell classes apart and do not repeat each other.

    `redundancy`: lambda, how much neurons that repeat each other cost; `stage`: the share of the epochs spent on them.
    """

    SOURCE: ClassVar[str] = "Luo et al., 2016 [7]"
    GAIN: ClassVar[str] = "accuracy"
    needs_teacher: ClassVar[bool] = True
    redundancy: float = 0.1
    stage: float = 0.5

    def __post_init__(self):
        check_range("neuron_selection redundancy", self.redundancy, 0, 100)
        check_range("neuron_selection stage", self.stage, 0, 0.9)

    def hooks(self, run: Run) -> Hooks:
        return _Selected(self, run)


def energy(chosen, unary, pairs, redundancy: float) -> float:
    """E of a choice bool [n], for phi [n] and psi [n, n]."""
    chosen = chosen.to(unary.dtype)
    return float(unary @ chosen + redundancy * chosen @ pairs @ chosen)


def select(unary, pairs, redundancy: float):
    """The choice bool [n] of the mean field; the neuron of lowest phi where it chooses none."""
    import torch

    beliefs = torch.full_like(unary, 0.5)
    for number in range(ROUNDS):
        steepness = STEEPEST ** ((number + 1) / ROUNDS)
        wanted = torch.sigmoid(-steepness * (unary + 2 * redundancy * pairs @ beliefs))
        beliefs = DAMPING * beliefs + (1 - DAMPING) * wanted
    chosen = beliefs > 0.5
    chosen[unary.argmin()] |= not bool(chosen.any())
    return chosen


def potentials(hidden, changed, labels):
    """phi [n] and psi [n, n] of activations [N, n], of the same images changed (a list of [N, n]), and labels int64 [N]."""
    import torch

    total = hidden.var(0, unbiased=False).clamp(min=1e-12)
    means = torch.stack([hidden[labels == label].mean(0) for label in labels])
    between = means.var(0, unbiased=False) / total
    nuisance = torch.stack([(other - hidden).square().mean(0) / (2 * total) for other in changed]).mean(0)
    pairs = torch.corrcoef(hidden.T).nan_to_num().abs().fill_diagonal_(0)
    return nuisance.clamp(max=1) - between, pairs


class _Selected(Hooks):
    def __init__(self, recipe: NeuronSelection, run: Run):
        self.first = run.first_stage(recipe.stage)
        self.epoch, self.hidden, self.handles = 0, {}, []
        if self.first:
            self._choose(recipe, run)

    def _choose(self, recipe: NeuronSelection, run: Run) -> None:
        import torch
        from torch import nn

        for name, network in (("student", run.network), ("teacher", run.teacher)):
            self.handles.append(_last(network).register_forward_pre_hook(self._keep(name)))
        with torch.no_grad():
            original, *changed = [self._hidden_of(run, images) for images in (run.example, *_changed(run.example))]
        self.chosen = select(*potentials(original, changed, run.example_labels), recipe.redundancy)
        self.regressor = nn.Linear(self.hidden["student"].shape[1], int(self.chosen.sum())).to(original.device)

    def _keep(self, name: str):
        def hook(layer, inputs):
            self.hidden[name] = inputs[0] if inputs[0].dim() == 2 else inputs[0].mean((2, 3))
        return hook

    def _hidden_of(self, run: Run, images):
        run.network.eval()(images)
        run.teacher(images)
        return self.hidden["teacher"]

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
        if self.epoch >= self.first:
            return batch.cross_entropy()
        return 0.5 * (self.regressor(self.hidden["student"]) - self.hidden["teacher"][:, self.chosen]).square().sum(1).mean()

    def state(self) -> dict:
        return {"chosen": self.chosen, **self.regressor.state_dict()} if self.first else {}

    def restore(self, state: dict) -> None:
        if self.first:
            self.chosen = state["chosen"]
            self.regressor.load_state_dict({name: state[name] for name in ("weight", "bias")})


def _last(network):
    """The layer that gives the logits."""
    from torch import nn

    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not layers:
        raise SpaceError("neuron_selection: the teacher has no layer that can be watched, as exported programs have none; give a network")
    return layers[-1]


def _changed(images):
    """The images shifted by an eighth of their width, turned by ten degrees, and lit more, as far as networks should not mind."""
    import math

    import torch
    from torch.nn import functional

    angle = math.radians(10)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]], device=images.device)
    grid = functional.affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return [images.roll(max(1, images.shape[3] // 8), 3), functional.grid_sample(images, grid, align_corners=False), images + 0.5]
