"""Augmentations: the folder is walked; the changes of pixels are compared with Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from evaluators.training.augment import augmented, mixed, names
from evaluators.training.augmentations import random_augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", names())
def test_every_augmentation_keeps_shape_and_type_and_follows_its_generator(name, channels):
    images, labels = torch.randint(0, 256, (40, channels, 17, 14), dtype=torch.uint8), torch.arange(40) % 7
    first, again, other = (augmented(images, (name,), generator(seed)) for seed in (1, 1, 2))
    real = images.float() / 255
    mixes = [mixed(real, labels, 7, (name,), generator(seed)) for seed in (1, 1, 2)]
    assert first.shape == images.shape and first.dtype == torch.uint8 and torch.equal(first, again)
    assert mixes[0][0].shape == images.shape and all(torch.equal(a, b) for a, b in zip(*mixes[:2]))
    assert not torch.equal(first, other) or not torch.equal(mixes[0][0], mixes[2][0])


@pytest.mark.parametrize("name", names())
def test_how_images_lie_in_memory_does_not_matter(name):
    images = torch.randint(0, 256, (20, 3, 16, 12), dtype=torch.uint8)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augmented(last, (name,), generator()), augmented(images, (name,), generator()))


def test_cropping_moves_each_image_within_a_black_border():
    images = torch.randint(1, 256, (200, 2, 16, 16), dtype=torch.uint8)
    moved = augmented(images, ("crop",), torch.Generator().manual_seed(0)).numpy()
    padded, seen = np.pad(images.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)]), set()
    for before, after in zip(padded, moved):
        places = [(y, x) for y in range(5) for x in range(5) if (before[:, y:y + 16, x:x + 16] == after).all()]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_flipping_mirrors_about_half_of_the_images():
    images = torch.randint(0, 256, (400, 1, 4, 4), dtype=torch.uint8)
    out = augmented(images, ("flip",), torch.Generator().manual_seed(0))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert bool((mirrored | kept).all()) and 150 < int(mirrored.sum()) < 250


def test_cutout_hides_one_square_of_half_the_side():
    images = torch.ones(300, 2, 16, 16)
    out, labels = mixed(images, torch.arange(300), 300, ("cutout",), generator())
    hidden = (out == 0).all(1)
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), rows * columns) and torch.equal((out == 0).any(1), hidden)
    assert int(rows.max()) == int(columns.max()) == 8 and int(rows.min()) >= 4 and torch.equal(labels, torch.arange(300))


def test_mixup_takes_the_same_mean_of_images_and_labels():
    images, labels = torch.eye(30)[:, None, None], torch.arange(30) % 5
    out, probabilities = mixed(images, labels, 5, ("mixup",), generator(3))
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(out[:, 0, 0] @ one_hot, probabilities)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(30))
    assert ((out > 0).sum((1, 2, 3)) <= 2).all() and (probabilities.max(1).values < 1).any()


def pillow(change, images: torch.Tensor) -> np.ndarray:
    """Each image through Pillow."""
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
    return np.stack([np.asarray(change(picture)) for picture in pictures]).transpose(0, 3, 1, 2)


def sheared(matrix):
    return lambda picture: picture.transform(picture.size, Image.Transform.AFFINE, matrix)


SIDE, STRENGTH = 20, 0.4
FACTOR = 1 + 0.9 * STRENGTH
CHANGES = {  # number in the list of changes: Pillow's, steps by which roundings may differ
    0: (lambda picture: picture, 0), 1: (ImageOps.autocontrast, 1), 2: (ImageOps.equalize, 0),
    4: (lambda picture: ImageOps.solarize(picture, 256 * (1 - STRENGTH)), 0), 5: (lambda p: ImageEnhance.Color(p).enhance(FACTOR), 2),
    6: (lambda picture: ImageOps.posterize(picture, 8 - round(4 * STRENGTH)), 0),
    7: (lambda picture: ImageEnhance.Contrast(picture).enhance(FACTOR), 2),
    8: (lambda picture: ImageEnhance.Brightness(picture).enhance(FACTOR), 1),
    9: (lambda picture: ImageEnhance.Sharpness(picture).enhance(FACTOR), 2)}


@pytest.mark.parametrize("number", CHANGES)
def test_changes_of_colour_are_those_of_pillow(number):
    change, allowed = CHANGES[number]
    images = torch.randint(20, 200, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator())
    ours = random_augment.CHANGES[number](images.float(), torch.full((5, 1, 1, 1), STRENGTH)).round().clamp(0, 255)
    assert np.abs(ours.numpy() - pillow(change, images)).max() <= allowed


@pytest.mark.parametrize("number, matrix", [
    (10, lambda s: (1, 0.3 * s, -0.3 * s * SIDE / 2, 0, 1, 0)), (11, lambda s: (1, 0, 0, 0.3 * s, 1, -0.3 * s * SIDE / 2)),
    (12, lambda s: (1, 0, 0.9 * s * SIDE / 2, 0, 1, 0)), (13, lambda s: (1, 0, 0, 0, 1, 0.9 * s * SIDE / 2))])
@pytest.mark.parametrize("strength", [-0.37, 0.37])
def test_moved_images_are_those_of_pillow(number, matrix, strength):
    images = torch.randint(1, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator())
    ours = random_augment.CHANGES[number](images.float(), torch.full((5, 1, 1, 1), strength))
    differing = ours.numpy() != pillow(sheared(matrix(strength)), images)
    assert differing.any(1).mean() <= 0.02  # pixels whose source lies between two


def test_rotation_turns_about_the_middle():
    images = torch.randint(1, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator())
    ours = random_augment.CHANGES[3](images.float(), torch.ones(4, 1, 1, 1)).numpy()
    either = [(ours != pillow(lambda picture, turn=turn: picture.rotate(turn), images)).any(1).mean() for turn in (-30, 30)]
    assert min(either) <= 0.02
