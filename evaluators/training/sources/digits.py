"""The digits that come with scikit-learn: 1,797 grey images of 8x8 pixels (Alpaydin and Kaynak, 1998)."""

import numpy as np

from evaluators.training.raw import Raw, split_by_class


def read(path: str) -> Raw:
    """All images; a fifth of each class, drawn once and for all, is the test split. `path` is not used."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images[:, None] * (255 / 16)).astype(np.uint8)
    test = split_by_class(bunch.target, 0.2, seed=0)
    return Raw(images[~test], bunch.target[~test], images[test], bunch.target[test],
               tuple(map(str, bunch.target_names)))
