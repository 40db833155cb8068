"""Mixup (Zhang et al., 2018): each image is a weighted mean of two of the batch, and so is its label. The weight of a batch is drawn
from Beta(alpha, alpha)."""

import numpy as np
import torch

ALPHA = 0.2


def normalised(images: torch.Tensor, labels: torch.Tensor, classes: int, generator: torch.Generator):
    """Mixed images, and probabilities [N, classes] for labels."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    weight = float(np.random.default_rng(seed).beta(ALPHA, ALPHA))
    other = torch.randperm(len(images), generator=generator)
    one_hot = torch.nn.functional.one_hot(labels, classes).to(images.dtype) if labels.dim() == 1 else labels
    return torch.lerp(images[other], images, weight), torch.lerp(one_hot[other], one_hot, weight)
