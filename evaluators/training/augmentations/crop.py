"""Random crops of images with a black border of an eighth of their side (Krizhevsky et al., 2012; He et al., 2016)."""

import torch

SHARE_OF_SIDE = 8


def pixels(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image at a place of its own in its padded copy."""
    count, _, height, width = images.shape
    pad = max(1, min(height, width) // SHARE_OF_SIDE)
    padded = torch.nn.functional.pad(images, [pad] * 4)
    down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
    # Views of every place: one index an image, not one a pixel.
    places = padded.unfold(2, height, 1).unfold(3, width, 1)
    return places[torch.arange(count), :, down, right]
