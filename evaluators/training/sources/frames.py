"""Sequences in a NumPy file, one image a frame: the frame in the middle of its neighbours, as hybrid speech recognisers see it (Hinton et
al., "Deep neural networks for acoustic modeling in speech recognition", 2012).

`x` [N, T, B] are N utterances of T frames of B features, such as log-mel energies; `label` and `speaker` [N], whole numbers from 0;
optionally class names in `classes`. Frames have no labels of their own: each has its utterance's, without forced alignment. Images hold
bytes: the features are quantised to 256 even steps over their range in the utterances of all speakers but the last, who is the test
split; what lies beyond that range there is clipped.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from evaluators.training.raw import DataError, Raw, Windows, arrays_of, names_of

KEYS = ("x", "label", "speaker")


def windows(path: str, context: int) -> Raw:
    """Images uint8 [N T, 1, 2 context + 1, B]; the first and last frames are repeated where an utterance has no more."""
    arrays = arrays_of(path, KEYS)
    _check(path, *(arrays[key] for key in KEYS))
    label, speaker = (arrays[key].astype(np.int64) for key in KEYS[1:])
    test = speaker == speaker.max()
    frames = quantised(arrays["x"], arrays["x"][~test])
    train_images, train_windows = _cut(frames, speaker, context, np.flatnonzero(~test))
    test_images, test_windows = _cut(frames, speaker, context, np.flatnonzero(test))
    return Raw(train_images, label[train_windows.utterance], test_images, label[test_windows.utterance],
               names_of(arrays, int(label.max()) + 1), train_windows, test_windows)


def quantised(features: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Features as uint8: 0 for the least of those `seen`, 255 for the greatest."""
    low, high = float(seen.min()), float(seen.max())
    steps = (features.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.rint(steps), 0, 255).astype(np.uint8)


def _cut(frames: np.ndarray, speaker: np.ndarray, context: int, utterances: np.ndarray) -> tuple[np.ndarray, Windows]:
    """The images of some utterances, and where they are from. No stride steps from window to window and from utterance to utterance
    alike, so that the windows are copies: 2 context + 1 times the frames' bytes."""
    length, bands = frames.shape[1:]
    padded = np.pad(frames[utterances], ((0, 0), (context, context), (0, 0)), mode="edge")
    views = sliding_window_view(padded, 2 * context + 1, axis=1).swapaxes(2, 3)
    utterance = utterances.repeat(length)
    return (np.require(views.reshape(-1, 1, 2 * context + 1, bands), requirements=["C", "W"]),
            Windows(utterance, np.tile(np.arange(length), len(utterances)), speaker[utterance]))


def _check(path: str, x: np.ndarray, label: np.ndarray, speaker: np.ndarray) -> None:
    if x.ndim != 3 or not np.issubdtype(x.dtype, np.floating) or not np.isfinite(x).all():
        raise DataError(f"{path}: x is {x.dtype} {x.shape}; it must be finite floating-point numbers [utterances, frames, features]")
    for key, array in (("label", label), ("speaker", speaker)):
        if array.shape != x.shape[:1] or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
            raise DataError(f"{path}: {key} is {array.dtype} {array.shape}; it must be whole numbers from 0, one of each of the {len(x)}"
                            " utterances")
    if len(np.unique(speaker)) < 3:
        raise DataError(f"{path}: speaker has {len(np.unique(speaker))} speakers; training, validation and test need one each, at least 3")
