"""Half of the images mirrored left to right (Krizhevsky et al., 2012)."""

import torch


def pixels(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image mirrored or not, as likely."""
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).nonzero().flatten()
    return images.index_copy(0, mirrored, images.index_select(0, mirrored).flip(3))
