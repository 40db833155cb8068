"""The training loop: SGD with Nesterov momentum, one-cycle learning rate, cross entropy or a recipe's loss.

Learning rate: linear warm-up over the first tenth of the steps, then a cosine to zero (Loshchilov and
Hutter, 2017). Weight decay spares biases, batch norms and depthwise filters (Howard et al., 2017 [54]).
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from evaluators.training.data import Dataset, Split, batches

MOMENTUM, CLIP, EVALUATION_BATCH = 0.9, 5.0, 500


class Diverged(ValueError):
    """Training that left the finite numbers: the message names the epoch and step."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `learning_rate` is the highest, reached after the warm-up."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float


def train(network: nn.Module, dataset: Dataset, schedule: Schedule, seed: int, recipes=(), teacher=None) -> float:
    """Trains in place and returns the seconds it took; the same seed gives the same weights.

    recipes: their losses are averaged; cross entropy where there are none. teacher: a network in eval
    mode that sees the same augmented images. Diverged if the loss is not finite.
    """
    begin, step = time.perf_counter(), 0
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(_groups(network, schedule.weight_decay), schedule.learning_rate,
                                momentum=MOMENTUM, nesterov=True)
    steps = schedule.epochs * max(1, len(dataset.train) // schedule.batch)
    pace = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: learning_rate(s, steps))
    network.train()
    for epoch in range(schedule.epochs):
        for images, labels in batches(dataset, schedule.batch, generator):
            loss = _loss(network(images), labels, images, recipes, teacher)
            if not math.isfinite(loss.item()):
                raise Diverged(f"training diverged: the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
            pace.step()
            step += 1
    return time.perf_counter() - begin


def learning_rate(step: int, steps: int) -> float:
    """The share of the highest learning rate at a step: up over a tenth of the steps, down by a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def evaluate(network: nn.Module, split: Split, dataset: Dataset) -> float:
    """The share of images that the network, in eval mode, classifies right."""
    network.eval()
    right = 0
    with torch.no_grad():
        for images, labels in zip(split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH)):
            right += int((network(dataset.normalised(images)).argmax(1) == labels).sum())
    return right / len(split)


def warm(network: nn.Module, dataset: Dataset, batch: int, seed: int, count: int = 10) -> None:
    """Runs `count` batches of training images through the network in training mode, without learning.

    Batch norms take the average statistics of these batches; integer layers see their inputs' ranges.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, (images, _) in zip(range(count), batches(dataset, batch, generator)):
            network(images)
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum


def _loss(logits, labels, images, recipes, teacher) -> torch.Tensor:
    if not recipes:
        return nn.functional.cross_entropy(logits, labels)
    with torch.no_grad():
        taught = teacher(images) if teacher is not None else None
    return sum(recipe.loss(logits, labels, taught) for recipe in recipes) / len(recipes)


def _groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Parameters that decay, and those that do not."""
    spared = {id(p) for m in network.modules() for p in m.parameters(recurse=False)
              if isinstance(m, nn.BatchNorm2d) or p.dim() < 2 or getattr(m, "groups", 1) > 1}
    decayed = [p for p in network.parameters() if id(p) not in spared]
    return [{"params": decayed, "weight_decay": weight_decay},
            {"params": [p for p in network.parameters() if id(p) in spared], "weight_decay": 0.0}]
