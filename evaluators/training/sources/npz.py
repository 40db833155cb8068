"""Arrays in a NumPy file: x_train, y_train, x_test, y_test; optionally class names in `classes`."""

import numpy as np

from evaluators.training.raw import DataError, Raw, arrays_of, names_of

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read(path: str) -> Raw:
    """Images are uint8 [N, H, W], [N, H, W, 3 or 1] or [N, C, H, W]; labels are whole numbers from 0."""
    arrays = arrays_of(path, KEYS)
    labels = [arrays[key].astype(np.int64) for key in ("y_train", "y_test")]
    count = int(max(y.max() for y in labels)) + 1
    return Raw(_images(path, "x_train", arrays["x_train"]), labels[0], _images(path, "x_test", arrays["x_test"]), labels[1],
               names_of(arrays, count))


def _images(path: str, key: str, array: np.ndarray) -> np.ndarray:
    """[N, C, H, W] uint8."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise DataError(f"{path}: {key} is {array.dtype} {array.shape}; it must be uint8 [N, H, W] or with channels")
    if array.ndim == 3:
        return array[:, None]
    return array if array.shape[1] in (1, 3) else np.ascontiguousarray(array.transpose(0, 3, 1, 2))
