"""Made-up utterances: ten classes, told by the band that is loud in some frames; speakers differ in loudness."""

import numpy as np

from evaluators.training.data import Dataset, open_data
from search.study_file import DataTable

SPEAKERS, FRAMES, BANDS, CONTEXT = 5, 12, 10, 2


def arrays(takes: int = 2) -> dict[str, np.ndarray]:
    """`x` float16 [N, FRAMES, BANDS], `label` and `speaker`; of each speaker so many `takes` of each class."""
    rng = np.random.default_rng(0)
    speaker, label = (each.ravel() for each in np.meshgrid(np.arange(SPEAKERS), np.arange(10).repeat(takes), indexing="ij"))
    x = rng.normal(-8, 1, (len(label), FRAMES, BANDS))
    for utterance, band in zip(x, label):
        begin = rng.integers(FRAMES - 6)
        utterance[begin:begin + 6, band] += 9
    order = rng.permutation(len(label))
    return {"x": (x + 0.3 * speaker[:, None, None])[order].astype(np.float16), "label": label[order].astype(np.uint8),
            "speaker": speaker[order].astype(np.uint8)}


def opened(folder, changes: dict | None = None, **settings) -> Dataset:
    """The data set of such a file, with some arrays in place of others."""
    np.savez(folder / "spoken.npz", **(arrays() | (changes or {})))
    return open_data(DataTable(source="frames", path=str(folder / "spoken.npz"), **{"context": CONTEXT, **settings}), 0)
