"""Arrays in a NumPy file: x_train, y_train, x_test, y_test; optionally class names in `classes`."""

import zipfile

import numpy as np

from evaluators.training.raw import DataError, Raw, locate

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read(path: str) -> Raw:
    """Images are uint8 [N, H, W], [N, H, W, 3 or 1] or [N, C, H, W]; labels are whole numbers from 0."""
    file = locate(path)
    try:
        arrays = np.load(file, allow_pickle=False)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{file} is not a NumPy archive: {error}") from None
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise DataError(f"{file} has no array {', '.join(missing)}; it needs {', '.join(KEYS)}")
    labels = [arrays[key].astype(np.int64) for key in ("y_train", "y_test")]
    count = int(max(y.max() for y in labels)) + 1
    classes = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(map(str, range(count)))
    return Raw(_images(file, "x_train", arrays["x_train"]), labels[0],
               _images(file, "x_test", arrays["x_test"]), labels[1], classes)


def _images(file, key: str, array: np.ndarray) -> np.ndarray:
    """[N, C, H, W] uint8."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise DataError(f"{file}: {key} is {array.dtype} {array.shape}; it must be uint8 [N, H, W] or with channels")
    if array.ndim == 3:
        return array[:, None]
    return array if array.shape[1] in (1, 3) else np.ascontiguousarray(array.transpose(0, 3, 1, 2))
