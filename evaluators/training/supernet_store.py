"""Trained supernets by what they were trained on: in a study's folder, and in the user's cache for other studies.

A supernet is reused where the stages, the images, the schedule and the seed are the same; compressions, target and objectives may
differ. Files are safetensors that say in their header what they are; one of something else is trained anew, never believed.
"""

import hashlib
import os
import shutil
from pathlib import Path

from evaluators.training.data import PART, Dataset
from evaluators.training.schedule import Schedule
from evaluators.training.supernet import Supernet, train_supernet
from spaces.space import Space

FORMAT, NAME = 3, "supernet.safetensors"


def obtain(space: Space, dataset: Dataset, schedule: Schedule, seed: int, shrinking: float, folder: Path) -> Supernet:
    """The trained supernet, from `folder` (a study's), the cache, or by training it, which goes on where a killed run stopped."""
    key = key_of(space, dataset, schedule, seed, shrinking)
    for file in (folder / NAME, _cached(key)):
        supernet = _read(file, key, Supernet(space, dataset.shape, seed))
        if supernet is not None:
            _keep(file, folder / NAME)
            return supernet
    supernet = train_supernet(space, dataset, schedule, seed, shrinking, folder / "training" / "supernet")
    _write(supernet, folder / NAME, key)
    _keep(folder / NAME, _cached(key))
    shutil.rmtree(folder / "training" / "supernet", ignore_errors=True)
    return supernet


def key_of(space: Space, dataset: Dataset, schedule: Schedule, seed: int, shrinking: float) -> str:
    """64 hexadecimal digits of all that its weights depend on."""
    order = f" {shrinking}" if shrinking else ""  # those trained before there was a choice had none
    what = f"{FORMAT} {space.stages} {space.head} {space.classes} {schedule} {seed} {dataset.augment}{order}"
    digest = hashlib.sha256(what.encode())
    for part in (*dataset.train.images.split(PART), dataset.train.labels):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _cached(key: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netwright" / "supernets" / f"{key[:16]}.safetensors"


def _read(file: Path, key: str, supernet: Supernet) -> Supernet | None:
    """`supernet` with the file's weights; None if it is none of that key."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as kept:
            if (kept.metadata() or {}).get("key") != key:
                return None
            supernet.load_state_dict({name: kept.get_tensor(name) for name in kept.keys()})
            return supernet
    except (FileNotFoundError, SafetensorError):
        return None


def _write(supernet: Supernet, file: Path, key: str) -> None:
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    save_file(supernet.state_dict(), aside, {"key": key})
    os.replace(aside, file)


def _keep(file: Path, copy: Path) -> None:
    """A copy in the other place, unless it is there."""
    if file != copy:
        copy.parent.mkdir(parents=True, exist_ok=True)
        aside = copy.with_suffix(f".{os.getpid()}")
        shutil.copyfile(file, aside)
        os.replace(aside, copy)
