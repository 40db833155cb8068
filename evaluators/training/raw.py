"""Images as a source gives them, and what the sources share."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

DRAWS = 200


class DataError(ValueError):
    """Data that cannot be used: the message names the file and what would be right."""


@dataclass(frozen=True)
class Windows:
    """Where the images of a split come from, if they are windows of sequences: image i is the window about a `frame` of an `utterance`
    of a `speaker`, all int64 [N], arrays or tensors."""

    utterance: Any
    frame: Any
    speaker: Any

    def at(self, chosen) -> Self:
        """Those of the images that an index or a mask chooses."""
        return type(self)(self.utterance[chosen], self.frame[chosen], self.speaker[chosen])


@dataclass(frozen=True)
class Raw:
    """Images uint8 [N, C, H, W] and labels int64 [N] of both splits; the classes' names by label; the windows that images are of
    sequences."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    train_windows: Windows | None = None
    test_windows: Windows | None = None


def locate(path: str, key: str = "data.path") -> Path:
    """The file or folder `path`, which stands in a study as `key`, as given or below $NETWRIGHT_DATA. DataError says where it was looked
    for."""
    base = os.environ.get("NETWRIGHT_DATA")
    for place in (Path(path), *([Path(base) / path] if base else [])):
        if path and place.exists():
            return place
    looked = f"{base}/{path}" if base else "NETWRIGHT_DATA is not set"
    raise DataError(f"{key} {path!r} does not exist (nor {looked}); set NETWRIGHT_DATA to the folder that holds"
                    f" it, or give --set {key}=PATH" if base else
                    f"{key} {path!r} does not exist and {looked}; set it to the folder that holds the data,"
                    f" or give --set {key}=PATH")


def arrays_of(path: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of a NumPy archive. DataError if it is none, or has not all the `keys`."""
    file = locate(path)
    try:
        arrays = dict(np.load(file, allow_pickle=False))
    except (ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{file} is not a NumPy archive: {error}") from None
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise DataError(f"{file} has no array {', '.join(missing)}; it needs {', '.join(keys)}")
    return arrays


def names_of(arrays: dict[str, np.ndarray], count: int) -> tuple[str, ...]:
    """The classes' names: those of the array `classes`, or numbers."""
    return tuple(map(str, arrays["classes"] if "classes" in arrays else range(count)))


def split_by_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A mask [N] that draws `share` of every class, rounded, at least one."""
    rng, drawn = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn[rng.permutation(members)[: max(1, round(share * len(members)))]] = True
    return drawn


def split_by_speaker(speakers: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A mask [N] that draws all of some speakers, at least one and not every one: of many random choices the one that comes nearest to
    `share` of the N."""
    numbers, counts = np.unique(speakers, return_counts=True)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(len(numbers)), (DRAWS, 1)), axis=1)
    away = np.abs(counts[orders].cumsum(1)[:, :-1] - share * len(speakers))
    best, last = np.unravel_index(away.argmin(), away.shape)
    return np.isin(speakers, numbers[orders[best, : last + 1]])
