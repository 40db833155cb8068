"""Random crops of images with a black border of an eighth of their side (Krizhevsky et al., 2012; He et al., 2016)."""

import torch

SHARE_OF_SIDE = 8


def pixels(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image at a place of its own in its padded copy."""
    count, channels, height, width = images.shape
    pad = max(1, min(height, width) // SHARE_OF_SIDE)
    padded = torch.nn.functional.pad(images, [pad] * 4)
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
    rows = (down[:, None] + torch.arange(height))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, None, :]
    each = torch.arange(count)[:, None, None, None]
    return padded[each, torch.arange(channels)[None, :, None, None], rows, columns]
