"""Images as a source gives them, and what the sources share."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataError(ValueError):
    """Data that cannot be used: the message names the file and what would be right."""


@dataclass(frozen=True)
class Raw:
    """Images uint8 [N, C, H, W] and labels int64 [N] of both splits; the classes' names by label."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


def locate(path: str) -> Path:
    """The file or folder `path`, as given or below $NETWRIGHT_DATA. DataError says where it was looked for."""
    base = os.environ.get("NETWRIGHT_DATA")
    for place in (Path(path), *([Path(base) / path] if base else [])):
        if path and place.exists():
            return place
    looked = f"{base}/{path}" if base else "NETWRIGHT_DATA is not set"
    raise DataError(f"data.path {path!r} does not exist (nor {looked}); set NETWRIGHT_DATA to the folder that holds"
                    " it, or give --set data.path=PATH" if base else
                    f"data.path {path!r} does not exist and {looked}; set it to the folder that holds the data,"
                    " or give --set data.path=PATH")


def split_by_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A mask [N] that draws `share` of every class, rounded, at least one."""
    rng, drawn = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn[rng.permutation(members)[: max(1, round(share * len(members)))]] = True
    return drawn
