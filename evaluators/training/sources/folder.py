"""Image folders, plain or in a zip archive: `train/<class>/<image>` and `test/<class>/<image>`.

Without train and test folders, `<class>/<image>` is split, a fifth of each class for testing. Decoded
once; the arrays are kept in the user's cache folder, by path, size and time of the source, and mapped into memory from there.
"""

import hashlib
import io
import os
import shutil
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from evaluators.training.raw import DataError, Raw, locate, split_by_class

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def read(path: str) -> Raw:
    """DataError names a missing or broken archive, a corrupt image or one of another size and says how many there are, an empty
    class."""
    source = locate(path)
    cache = _cached(source)
    if not cache.is_dir():
        _write(cache, _decode(source))
    # "c": pages that nobody writes to are shared with other processes, and may be dropped.
    x_train, y_train, x_test, y_test, classes = (np.load(cache / f"{name}.npy", mmap_mode="c") for name in ARRAYS)
    return Raw(x_train, y_train, x_test, y_test, tuple(map(str, classes)))


def _decode(source: Path) -> Raw:
    names, load = _zip(source) if source.is_file() else _directory(source)
    listed = sorted(n for n in names if PurePosixPath(n).suffix.lower() in IMAGES and "__MACOSX" not in n)
    if not listed:
        raise DataError(f"{source} holds no images; it needs train/<class>/*.jpg and test/<class>/*.jpg")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = _stack(source, listed, list(pool.map(lambda name: _image(name, load(name)), listed)))
    parts = [PurePosixPath(name).parts for name in listed]
    classes = tuple(sorted({part[-2] for part in parts}))
    labels = np.array([classes.index(part[-2]) for part in parts])
    test = _test_split(parts, labels)
    _check_classes(source, classes, labels[~test], "train")
    return Raw(images[~test], labels[~test], images[test], labels[test], classes)


def _zip(source: Path):
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise DataError(f"{source} is not a zip archive: {error}") from None
    contents = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    return contents, contents.__getitem__


def _directory(source: Path):
    files = [str(p.relative_to(source).as_posix()) for p in source.rglob("*") if p.is_file()]
    return files, lambda name: (source / name).read_bytes()


def _image(name: str, data: bytes) -> np.ndarray | str:
    """The pixels, or what is wrong with the image."""
    from PIL import Image, UnidentifiedImageError

    if len(PurePosixPath(name).parts) < 2:
        return f"{name} lies in no class folder; it needs train/<class>/{name}"
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        return f"{name} is no image that can be read: {error}"
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _stack(source: Path, names: list[str], images: list[np.ndarray | str]) -> np.ndarray:
    """All images as one array, if they can be read and most are not of another size."""
    _refuse(source, [image for image in images if isinstance(image, str)], len(images))
    usual, _ = Counter(image.shape for image in images).most_common(1)[0]
    example = names[next(i for i, image in enumerate(images) if image.shape == usual)]
    _refuse(source, [f"{name} is {_size(image.shape)}, {example} is {_size(usual)}; all images must have one size"
                     for name, image in zip(names, images) if image.shape != usual], len(images))
    return np.stack(images)


def _refuse(source: Path, wrong: list[str], count: int) -> None:
    """DataError with the first of what is wrong, and how much there is of it."""
    if wrong:
        more = f" ({len(wrong)} of {count} images are like that)" if len(wrong) > 1 else ""
        raise DataError(f"{source}: {wrong[0]}{more}")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"


def _test_split(parts, labels: np.ndarray) -> np.ndarray:
    named = np.array([len(part) > 2 and part[-3] == "test" for part in parts])
    return named if named.any() else split_by_class(labels, 0.2, seed=0)


def _check_classes(source: Path, classes: tuple[str, ...], labels: np.ndarray, split: str) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise DataError(f"{source}: class {name} has {counts.min()} {split} images; every class needs at least 2")


def _cached(source: Path) -> Path:
    newest = [source, *(source.rglob("*") if source.is_dir() else ())]
    stamp = max(p.stat().st_mtime_ns for p in newest), len(newest), source.stat().st_size
    key = hashlib.sha256(f"{source.resolve()} {stamp}".encode()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netwright" / f"{source.stem}-{key}"


def _write(cache: Path, raw: Raw) -> None:
    aside = cache.with_name(f"{cache.name}.{os.getpid()}.aside")
    aside.mkdir(parents=True, exist_ok=True)
    arrays = (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels, np.array(raw.classes))
    for name, array in zip(ARRAYS, arrays):
        np.save(aside / f"{name}.npy", array)
    try:
        os.replace(aside, cache)
    except OSError:
        if not cache.is_dir():  # another process was first
            raise
        shutil.rmtree(aside)
