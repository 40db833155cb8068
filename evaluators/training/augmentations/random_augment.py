"""RandAugment (Cubuk et al., 2020): each image goes through one of fourteen changes, chosen at random, all of one small strength:
N = 1 and M = 2 of 30, as the paper has it for small networks on CIFAR-10. The changes and their ranges are AutoAugment's (Cubuk et al., 2019,
table 6), their arithmetic Pillow's.
"""

import math

import torch
from torch.nn.functional import affine_grid, conv2d, grid_sample

STRENGTH = 2 / 30
LUMA = (0.299, 0.587, 0.114)


def pixels(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image through a change of its own, to one side or the other."""
    chosen = torch.randint(len(CHANGES), (len(images),), generator=generator)
    signs = torch.randint(2, (len(images),), generator=generator) * 2.0 - 1
    changed = images.clone()
    for number, change in enumerate(CHANGES):
        picked = chosen == number
        if bool(picked.any()):
            found = change(images[picked].float(), STRENGTH * signs[picked].view(-1, 1, 1, 1))
            changed[picked] = found.round().clamp(0, 255).to(torch.uint8)
    return changed


def _blend(other: torch.Tensor, images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """The image at strength 0, on the way to the other at -1 and away from it at 1."""
    return other + (1 + 0.9 * strength) * (images - other)


def _grey(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] != len(LUMA):
        return images.mean(1, keepdim=True).round()
    return (images * torch.tensor(LUMA).view(1, -1, 1, 1)).sum(1, keepdim=True).round()


def _smooth(images: torch.Tensor) -> torch.Tensor:
    """A weighted mean of 3x3 pixels; the border is left as it is."""
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    channels, smooth = images.shape[1], images.clone()
    inner = conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels)
    smooth[:, :, 1:-1, 1:-1] = inner.round()
    return smooth


def _moved(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Black where nothing comes from; matrices [N, 2, 3] from places in the result to those in the image, from -1 to 1."""
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="nearest", align_corners=False)


def _matrices(strength: torch.Tensor, entries: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
    matrices = torch.eye(2, 3).repeat(len(strength), 1, 1)
    for (row, column), values in entries.items():
        matrices[:, row, column] = values.flatten()
    return matrices


def _rotated(images, strength):
    angle, ratio = strength * math.radians(30), images.shape[2] / images.shape[3]
    return _moved(images, _matrices(strength, {(0, 0): angle.cos(), (0, 1): -angle.sin() * ratio,
                                               (1, 0): angle.sin() / ratio, (1, 1): angle.cos()}))


def _autocontrast(images, strength):
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, ((images - low) * 255 / (high - low).clamp(min=1)).floor(), images)


def _equalized(images, strength):
    """Each channel's values mapped so that they are spread as evenly as steps of a count allow."""
    planes = images.flatten(0, 1).flatten(1).long()
    counts = torch.zeros(len(planes), 256, dtype=torch.int64).scatter_add_(1, planes, torch.ones_like(planes))
    last = counts.gather(1, planes.amax(1, keepdim=True))
    step = (planes.shape[1] - last) // 255
    before = counts.cumsum(1) - counts
    tables = torch.where(step > 0, ((step // 2 + before) // step.clamp(min=1)).clamp(max=255), torch.arange(256))
    return tables.gather(1, planes).view_as(images).float()


CHANGES = (
    lambda images, strength: images,
    _autocontrast,
    _equalized,
    _rotated,
    lambda images, strength: torch.where(images < 256 * (1 - strength.abs()), images, 255 - images),
    lambda images, strength: _blend(_grey(images), images, strength),
    lambda images, strength: (images.long() >> (4 * strength.abs()).round().long() << (4 * strength.abs()).round().long()).float(),
    lambda images, strength: _blend(_grey(images).mean((1, 2, 3), keepdim=True).round(), images, strength),
    lambda images, strength: _blend(torch.zeros(1), images, strength),
    lambda images, strength: _blend(_smooth(images), images, strength),
    lambda images, strength: _moved(images, _matrices(strength, {(0, 1): 0.3 * strength})),
    lambda images, strength: _moved(images, _matrices(strength, {(1, 0): 0.3 * strength})),
    lambda images, strength: _moved(images, _matrices(strength, {(0, 2): 0.9 * strength})),
    lambda images, strength: _moved(images, _matrices(strength, {(1, 2): 0.9 * strength})),
)
