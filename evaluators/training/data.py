"""Data sets: train, validation and test splits, normalised by the training split's statistics.

Validation is carved out of training and is what a search sees; the test split is for final figures. Where images are windows of
sequences, whole speakers are held out, and it is utterances that are judged.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch

from evaluators.training import augment, sources
from evaluators.training.raw import DataError, Raw, Windows, split_by_class, split_by_speaker
from evaluators.training.rows import Rows
from spaces.recipe import Sequences

PART = 4096  # images that are read together


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, C, H, W]; labels: int64 [N]; windows: of which sequences they are, if they are of any."""

    images: torch.Tensor | Rows
    labels: torch.Tensor
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, chosen: torch.Tensor) -> Self:
        """The images that an index or a mask chooses."""
        return type(self)(Rows.of(self.images).at(chosen), self.labels[chosen], self.windows.at(chosen) if self.windows else None)

    def accuracy(self, logits: torch.Tensor) -> float:
        """The share of images whose label has the greatest of their logits [N, classes]; where they are windows, the share of utterances
        whose label has the greatest sum of the windows' log-posteriors."""
        labels = self.labels
        if self.windows is not None:
            numbers, of = self.windows.utterance.unique(return_inverse=True)
            sums = torch.zeros(len(numbers), logits.shape[1], dtype=torch.float64)
            logits = sums.index_add(0, of, logits.double().log_softmax(1))
            labels = torch.zeros_like(numbers).scatter(0, of, labels)
        return int((logits.argmax(1) == labels).sum()) / len(labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits; `mean` and `std` float32 [C] of the training images' pixels in [0, 255]; `sequences`: those that training images are
    windows of, if they are of any; `taught`: float32 [N, classes], what a teacher gives of the training images, if it has been asked."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    augment: tuple[str, ...]
    sequences: Sequences | None = None
    taught: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return tuple(self.train.images.shape[1:])

    def part(self, count: int, seed: int) -> "Dataset":
        """The same with so many training images, chosen at random, or all if there are fewer. Sequences stay whole."""
        chosen = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))[:count]
        sequences, taught = self.sequences, self.taught
        return replace(self, train=self.train.at(chosen), sequences=sequences.at(chosen) if sequences is not None else None,
                       taught=taught[chosen] if taught is not None else None)

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] of zero mean and unit deviation a channel over the training split."""
        return images.to(torch.float32, copy=True).sub_(self.mean.view(-1, 1, 1)).div_(self.std.view(-1, 1, 1))

    def utterances(self, split: Split) -> Sequences | None:
        """The sequences that the images of a whole split are windows of, put together from the windows' middles, so that each is where
        its own frame is; None where they are no windows."""
        if split.windows is None:
            return None
        numbers, of = split.windows.utterance.unique(return_inverse=True)
        middles = self.normalised(split.images[:][:, :, split.images.shape[2] // 2, None])[:, 0, 0]
        features = torch.zeros(len(numbers), int(split.windows.frame.max()) + 1, middles.shape[1])
        features[of, split.windows.frame] = middles
        labels = torch.zeros_like(numbers).scatter(0, of, split.labels)
        return Sequences(features, labels, len(self.classes), of, split.windows.frame)


def open_data(settings, seed: int) -> Dataset:
    """The data set of a study's [data] table: `source`, `path`, `context` of sequences, `validation` (share), `augment`.

    DataError names an unknown source or augmentation, or what is wrong with the files.
    """
    raw = _read(settings)
    augment.check(settings.augment)
    train, validation, test = _splits(raw, settings, seed)
    mean, std = _statistics(train.images)
    dataset = Dataset(train, validation, test, raw.classes, mean, std.clamp(min=1e-3), tuple(settings.augment))
    return replace(dataset, sequences=dataset.utterances(train))


def batches(dataset: Dataset, batch: int, generator: torch.Generator,
            mixing: bool = True) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """One epoch of (normalised, augmented images; labels; which training images they are) in random order; the last, smaller batch is
    left out unless it is the only one. Labels are probabilities [N, classes] where an augmentation mixes images, which `mixing` allows."""
    order = torch.randperm(len(dataset.train), generator=generator)
    count = max(1, len(order) // batch)
    for chosen in order[: count * batch].split(batch):
        images = augment.augmented(dataset.train.images[chosen], dataset.augment, generator)
        images, labels = dataset.normalised(images), dataset.train.labels[chosen]
        if mixing:
            images, labels = augment.mixed(images, labels, len(dataset.classes), dataset.augment, generator)
        yield images, labels, chosen


def _read(settings) -> Raw:
    """What the source gives: windows of sequences, or images."""
    source = sources.load(settings.source)
    return source.windows(settings.path, settings.context) if sources.of_sequences(source) else source.read(settings.path)


def _splits(raw: Raw, settings, seed: int) -> tuple[Split, Split, Split]:
    """Training, validation and test images: the second come out of the first, or of the last."""
    train = _split(raw.train_images, raw.train_labels, raw.train_windows)
    test = _split(raw.test_images, raw.test_labels, raw.test_windows)
    source = train if settings.validation_from == "train" else test
    held = _held_out(source, settings.validation, seed)
    rest, validation = source.at(~held), source.at(held)
    return (rest, validation, test) if source is train else (train, validation, rest)


def _held_out(split: Split, share: float, seed: int) -> torch.Tensor:
    """A mask of the images that are for validation."""
    if split.windows is not None:
        return torch.from_numpy(split_by_speaker(split.windows.speaker.numpy(), share, seed))
    return torch.from_numpy(split_by_class(split.labels.numpy(), share, seed))


def _statistics(images: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the standard deviation of a channel's pixels, float32 [C], from a part of the images at a time."""
    count, sums, squares = len(images) * math.prod(images.shape[2:]), 0, 0
    for part in images.split(PART):
        pixels = part.transpose(0, 1).flatten(1).long()
        sums, squares = sums + pixels.sum(1), squares + pixels.square().sum(1)
    mean = sums.double() / count
    return mean.float(), ((squares.double() - count * mean**2) / max(1, count - 1)).clamp(min=0).sqrt().float()


def _split(images, labels, windows: Windows | None) -> Split:
    places = Windows(*map(torch.from_numpy, (windows.utterance, windows.frame, windows.speaker))) if windows else None
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long(), places)
