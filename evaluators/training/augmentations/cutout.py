"""A square of each image is the mean colour (DeVries and Taylor, 2017): half the side long, around any pixel, so that part of it
may lie outside."""

import torch

SHARE_OF_SIDE = 2


def normalised(images: torch.Tensor, labels: torch.Tensor, classes: int, generator: torch.Generator):
    """The mean of normalised images is zero."""
    count, _, height, width = images.shape
    length = max(1, min(height, width) // SHARE_OF_SIDE)
    inside = [_covered(side, length, count, generator) for side in (height, width)]
    hidden = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return images.masked_fill(hidden, 0.0), labels


def _covered(side: int, length: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Which of a side's pixels lie in the square, bool [count, side]."""
    first = torch.randint(0, side, (count, 1), generator=generator) - length // 2
    place = torch.arange(side)
    return (place >= first) & (place < first + length)
