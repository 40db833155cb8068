"""Random crops of images with a black border of an eighth of their side (Krizhevsky et al., 2012; He et al., 2016)."""

import torch

SHARE_OF_SIDE = 8


def pixels(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image at a place of its own in its padded copy."""
    count, channels, height, width = images.shape
    pad = max(1, min(height, width) // SHARE_OF_SIDE)
    padded = torch.nn.functional.pad(images, [pad] * 4).contiguous()
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
    # Whole rows, found by where they begin, are copied faster than single pixels.
    rows, columns = padded.shape[2:]
    image = (torch.arange(count) * channels * rows * columns + down * columns + right).view(-1, 1, 1)
    begins = image + torch.arange(channels).view(-1, 1) * rows * columns + torch.arange(height) * columns
    every = padded.view(-1).as_strided((padded.numel() - width + 1, width), (1, 1))
    return every.index_select(0, begins.flatten()).view(images.shape)
