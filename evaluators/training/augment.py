"""Augmenting batches: the files of `augmentations` by name, in the order in which a study names them."""

import importlib
import pkgutil

import torch

from evaluators.training import augmentations
from evaluators.training.raw import DataError


def names() -> list[str]:
    """The augmentations that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(augmentations.__path__))


def check(chosen: list[str]) -> None:
    """DataError names an unknown one."""
    for name in chosen:
        if name not in names():
            raise DataError(f"data.augment has {name!r}; it can have {', '.join(names())}")


def augmented(images: torch.Tensor, chosen: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """uint8 images [N, C, H, W] after the changes of pixels."""
    for change in _having("pixels", chosen):
        images = change(images, generator)
    return images


def mixed(images: torch.Tensor, labels: torch.Tensor, classes: int, chosen: tuple[str, ...], generator: torch.Generator):
    """Normalised images and their labels, or probabilities, after the changes of those."""
    for change in _having("normalised", chosen):
        images, labels = change(images, labels, classes, generator)
    return images, labels


def _having(stage: str, chosen: tuple[str, ...]) -> list:
    modules = [importlib.import_module(f"{augmentations.__name__}.{name}") for name in chosen]
    return [getattr(module, stage) for module in modules if hasattr(module, stage)]
