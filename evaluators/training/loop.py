"""The training loop of every recipe: cross entropy or the recipes' losses, one optimiser and one schedule.

A run is deterministic by its seed, and goes on from a checkpoint as if it had never stopped.
"""

import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from evaluators.training.checkpoint import Checkpoint, named, under
from evaluators.training.data import Dataset, Split, batches
from evaluators.training.memory import keep_freed
from evaluators.training.schedule import Schedule, device_of, optimiser_of, pace_of
from spaces.recipe import Batch, Run

CLIP, EVALUATION_BATCH, EXAMPLES = 5.0, 128, 256


class Diverged(ValueError):
    """Training that left the finite numbers: the message names the epoch and step."""


def train(network: nn.Module, dataset: Dataset, schedule: Schedule, seed: int, recipes=(), teacher=None,
          checkpoint: Checkpoint | None = None) -> float:
    """Trains in place and returns the seconds it took, those before an interruption included; the same seed gives the same weights.

    recipes: genes (`spaces.recipe`), or what else has their `hooks`; modules of the network that do take part without being named.
    teacher: a network in eval mode that sees the same augmented images, unless the data set holds what it gives of them. checkpoint:
    where the run is kept and looked for. Diverged if the loss is not finite.
    """
    keep_freed()
    training = _Training(network, dataset, schedule, seed, recipes, teacher)
    try:
        if checkpoint is not None:
            training.resume(checkpoint)
        while training.epoch < schedule.epochs:
            training.one_epoch()
            if checkpoint is not None and (training.epoch == schedule.epochs or checkpoint.due()):
                checkpoint.write(*training.state())
    finally:
        training.close()
    return training.seconds


class _Training:
    """One run: what changes from step to step."""

    def __init__(self, network, dataset: Dataset, schedule: Schedule, seed: int, recipes, teacher):
        self.device = device_of(schedule.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.dataset, self.schedule, self.teacher = dataset, schedule, teacher.to(self.device) if teacher is not None else None
        steps = schedule.steps(len(dataset.train))
        chosen = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(seed))[:EXAMPLES]
        example = dataset.normalised(dataset.train.images[chosen]).to(self.device)
        run = Run(network, teacher, example, schedule.epochs, steps, dataset.train.labels[chosen].to(self.device), dataset.sequences,
                  dataset.augment)
        self.hooks = [learner.hooks(run) for learner in (*recipes, *(m for m in network.modules() if hasattr(m, "hooks")))]
        self.stages = sorted({0, schedule.epochs}.union(*[hooks.stages() for hooks in self.hooks]))
        self._begin_stage(0)
        self.mean = _mean_of(network, schedule.ema)
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch, self.step, self.seconds = 0, 0, 0.0

    def _begin_stage(self, epoch: int) -> None:
        """The optimiser and its pace for the stage that an epoch belongs to."""
        first, end = next(pair for pair in pairwise(self.stages) if epoch < pair[1])
        rate = self.schedule.learning_rate * math.prod(hooks.rate(first) for hooks in self.hooks)
        stage = replace(self.schedule, epochs=end - first, learning_rate=rate)
        self.optimiser = optimiser_of(self.network, [p for hooks in self.hooks for p in hooks.parameters()], stage)
        self.pace = pace_of(self.optimiser, stage, stage.steps(len(self.dataset.train)))

    def one_epoch(self) -> None:
        """Every training image once."""
        begin = time.perf_counter()
        if self.epoch in self.stages[1:]:
            self._begin_stage(self.epoch)
        self.network.train()
        for hooks in self.hooks:
            hooks.on_epoch(self.epoch)
        for images, labels, samples in batches(self.dataset, self.schedule.batch, self.generator):
            self._one_step(images.to(self.device), labels.to(self.device), samples)
        self.epoch += 1
        self.seconds += time.perf_counter() - begin

    def _one_step(self, images, labels, samples) -> None:
        loss = self._loss(channels_last(images), labels, samples)
        if not math.isfinite(loss.item()):
            raise Diverged(f"training diverged: the loss is {loss.item()} in epoch {self.epoch + 1}, step {self.step + 1}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimiser.step()
        self.pace.step()
        for hooks in self.hooks:
            hooks.on_step(self.step)
        if self.mean is not None:
            self.mean.update_parameters(self.network)
        self.step += 1

    def _loss(self, images, labels, samples) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.precision == "bfloat16"):
            batch = Batch(labels, self.network(images).float(), self._taught(images, samples), self.schedule.smoothing, images, samples)
            losses = [loss for loss in (hooks.loss(batch) for hooks in self.hooks) if loss is not None]
        loss = sum(losses) / len(losses) if losses else batch.cross_entropy()
        return loss + sum(hooks.penalty() for hooks in self.hooks)

    @torch.no_grad()
    def _taught(self, images, samples) -> torch.Tensor | None:
        if self.dataset.taught is not None:
            return self.dataset.taught[samples].to(self.device)
        return self.teacher(images).float() if self.teacher is not None else None

    def close(self) -> None:
        """Ends the recipes' part, and gives the network the running mean of its weights, if there is one."""
        for hooks in self.hooks:
            hooks.close()
        if self.mean is not None:
            self.network.load_state_dict(self.mean.module.state_dict())
        self.network.to("cpu", memory_format=torch.contiguous_format)
        if self.teacher is not None:
            self.teacher.to("cpu")

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and numbers from which `resume` goes on."""
        tensors = named("network", self.network.state_dict())
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= named(f"optimiser.{number}", {name: value for name, value in values.items() if value is not None})
        for number, hooks in enumerate(self.hooks):
            tensors |= named(f"recipe.{number}", hooks.state())
        if self.mean is not None:
            tensors |= named("mean", self.mean.state_dict())
        tensors |= {"random.order": self.generator.get_state(), "random.torch": torch.get_rng_state()}
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.optimiser.param_groups]
        return tensors, {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "groups": groups,
                         "pace": self.pace.state_dict()}

    def resume(self, checkpoint: Checkpoint) -> None:
        """Goes on from the checkpoint, if it holds something of this run."""
        kept = checkpoint.read()
        if kept is None:
            return
        tensors, numbers = kept
        self.network.load_state_dict(under("network", tensors))
        self._begin_stage(numbers["epoch"] - 1)  # that of the last epoch, whose optimiser was kept
        self._resume_optimiser(under("optimiser", tensors), numbers["groups"])
        self.pace.load_state_dict(numbers["pace"])
        for number, hooks in enumerate(self.hooks):
            hooks.restore(under(f"recipe.{number}", tensors))
        if self.mean is not None:
            self.mean.load_state_dict(under("mean", tensors))
        self.generator.set_state(tensors["random.order"])
        torch.set_rng_state(tensors["random.torch"])
        self.epoch, self.step, self.seconds = (numbers[name] for name in ("epoch", "step", "seconds"))

    def _resume_optimiser(self, tensors: dict[str, torch.Tensor], groups: list[dict]) -> None:
        """Momentum and learning rates as they were kept."""
        state: dict[int, dict] = {}
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor
        whole = self.optimiser.state_dict()
        kept = [group | {"params": own["params"]} for group, own in zip(groups, whole["param_groups"])]
        self.optimiser.load_state_dict({"state": state, "param_groups": kept})


def _mean_of(network: nn.Module, decay: float):
    """The running mean of the weights and of what batch norms saw (Polyak and Juditsky, 1992); None without decay. Whole numbers, such as
    codes, have no mean: they are as they are."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    towards = get_ema_multi_avg_fn(decay)

    def averaged(means: list[torch.Tensor], now: list[torch.Tensor], count) -> None:
        if means[0].is_floating_point():
            towards(means, now, count)
        else:
            for mean, value in zip(means, now):
                mean.copy_(value)

    return AveragedModel(network, multi_avg_fn=averaged, use_buffers=True) if decay else None


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """The images [N, C, H, W] as they lie in memory where convolutions are fastest."""
    return images.contiguous(memory_format=torch.channels_last)


def evaluate(network: nn.Module, split: Split, dataset: Dataset) -> float:
    """The share of images, or of utterances that they are windows of, that the network, in eval mode, classifies right."""
    return split.accuracy(logits_of(network.eval(), split.images, dataset))


@torch.no_grad()
def logits_of(network: nn.Module, images: torch.Tensor, dataset: Dataset) -> torch.Tensor:
    """What the network gives of images uint8 [N, C, H, W]: [N, classes]."""
    keep_freed()
    return torch.cat([network(dataset.normalised(part)) for part in images.split(EVALUATION_BATCH)])


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
        for _, (images, *_) in zip(range(count), batches(dataset, batch, generator, mixing=False)):
            network(channels_last(images))
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum
