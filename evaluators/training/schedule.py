"""How long and how fast a network trains: optimiser, learning rate by step, weight decay."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from evaluators.training.novograd import NovoGrad

MOMENTUM = 0.9


@dataclass(frozen=True)
class Schedule:
    """How one network is trained.

    `learning_rate` is the highest, reached after the warm-up. `optimizer`: "sgd", "adamw" or "novograd"; `pace`: "cosine" or
    "one_cycle"; `smoothing`: the share of each label spread over all classes; `ema`: the decay, a step, of the weights' running
    mean, which is what training gives; 0 for the weights themselves; `precision` of forward and backward: "float32", or
    "bfloat16", in which the weights are rounded where they multiply but learn in float32; `device`: see `device_of`.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    optimizer: str = "sgd"
    pace: str = "cosine"
    smoothing: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    device: str = "auto"

    def steps(self, images: int) -> int:
        """Optimiser steps of the whole run over so many images."""
        return self.epochs * max(1, images // self.batch)


def device_of(name: str) -> torch.device:
    """The processor to train on: "cpu", "cuda" or "mps"; "auto" for the GPU where there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def optimiser_of(network: nn.Module, others: list, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum (Sutskever et al., 2013), AdamW (Loshchilov and Hutter, 2019), or NovoGrad, which has no weight
    decay. Weight decay spares biases, batch norms and depthwise filters (Howard et al., 2017 [54]), and the `others` beside the
    network."""
    if schedule.optimizer == "novograd":
        return NovoGrad([*network.parameters(), *others], schedule.learning_rate)
    groups = groups_of(network, schedule.weight_decay)
    groups[1]["params"] += others
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, schedule.learning_rate)
    return torch.optim.SGD(groups, schedule.learning_rate, momentum=MOMENTUM, nesterov=True)


def groups_of(network: nn.Module, weight_decay: float) -> list[dict]:
    """Parameters that decay, and those that do not."""
    spared = {id(p) for m in network.modules() for p in m.parameters(recurse=False)
              if isinstance(m, nn.BatchNorm2d) or p.dim() < 2 or getattr(m, "groups", 1) > 1}
    decayed = [p for p in network.parameters() if id(p) not in spared]
    return [{"params": decayed, "weight_decay": weight_decay},
            {"params": [p for p in network.parameters() if id(p) in spared], "weight_decay": 0.0}]


def pace_of(optimiser: torch.optim.Optimizer, schedule: Schedule, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate by step: linear warm-up and a cosine to zero (Loshchilov and Hutter, 2017), or one cycle (Smith, 2018)."""
    if schedule.pace == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.learning_rate, max(2, steps))
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmed_cosine(step, steps))


def warmed_cosine(step: int, steps: int) -> float:
    """The share of the highest learning rate at a step: up over a tenth of the steps, down by a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
