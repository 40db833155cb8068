"""Several networks as one teacher: the mean of their logits, which is the geometric mean of their distributions at any temperature
(Hinton et al., 2015, section 5)."""

import torch
from torch import nn


class Ensemble(nn.Module):
    """`layers`, which recipes may watch: none, since each member has its own."""

    layers: tuple[nn.Module, ...] = ()

    def __init__(self, members: list[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(images) for member in self.members]).mean(0)
