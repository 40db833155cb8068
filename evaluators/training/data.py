"""Data sets: train, validation and test splits, normalised by the training split's statistics.

Validation is carved out of training and is what a search sees; the test split is for final figures.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from evaluators.training import augment, sources
from evaluators.training.raw import DataError, split_by_class


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, C, H, W]; labels: int64 [N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits; `mean` and `std` float32 [C] of the training images' pixels in [0, 255]."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    augment: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return tuple(self.train.images.shape[1:])

    def part(self, count: int, seed: int) -> "Dataset":
        """The same with so many training images, chosen at random, or all if there are fewer."""
        chosen = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))[:count]
        return replace(self, train=Split(self.train.images[chosen], self.train.labels[chosen]))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] of zero mean and unit deviation a channel over the training split."""
        return images.to(torch.float32, copy=True).sub_(self.mean.view(-1, 1, 1)).div_(self.std.view(-1, 1, 1))


def open_data(settings, seed: int) -> Dataset:
    """The data set of a study's [data] table: `source`, `path`, `validation` (share), `augment`.

    DataError names an unknown source or augmentation, or what is wrong with the files.
    """
    raw = _source(settings.source).read(settings.path)
    augment.check(settings.augment)
    held = split_by_class(raw.train_labels, settings.validation, seed)
    train = _split(raw.train_images[~held], raw.train_labels[~held])
    pixels = train.images.float()
    return Dataset(train, _split(raw.train_images[held], raw.train_labels[held]),
                   _split(raw.test_images, raw.test_labels), raw.classes,
                   pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=1e-3), tuple(settings.augment))


def batches(dataset: Dataset, batch: int, generator: torch.Generator,
            mixing: bool = True) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of (normalised, augmented images; labels) in random order; the last, smaller batch is left out
    unless it is the only one. Labels are probabilities [N, classes] where an augmentation mixes images, which `mixing` allows."""
    order = torch.randperm(len(dataset.train), generator=generator)
    count = max(1, len(order) // batch)
    for chosen in order[: count * batch].split(batch):
        images = augment.augmented(dataset.train.images.index_select(0, chosen), dataset.augment, generator)
        images, labels = dataset.normalised(images), dataset.train.labels[chosen]
        yield augment.mixed(images, labels, len(dataset.classes), dataset.augment, generator) if mixing else (images, labels)


def _split(images, labels) -> Split:
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())


def _source(name: str):
    known = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    if name not in known:
        raise DataError(f"data.source is {name!r}; known: {', '.join(known)}")
    return importlib.import_module(f"evaluators.training.sources.{name}")
