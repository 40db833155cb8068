"""The leading singular values and vectors of a matrix.

Where few of many are wanted, by the implicitly restarted Lanczos method (Lehoucq, Sorensen and Yang, 1998, ARPACK), which
reaches the precision of the numbers as the full decomposition does, in a fraction of its time. What it cannot do, of which
zero is one matrix, the full decomposition does.
"""

# Lanczos pays from this size on, for less than this share of the vectors.
LARGE, FEW = 512, 0.05


def truncated_svd(matrix, rank: int):
    """(left [m, r], values [r], right [r, n]) of a tensor [m, n], values falling, r = min(rank, m, n); torch's LinAlgError
    or NaN if a number is not finite."""
    from scipy.sparse.linalg import ArpackError

    from spaces.trace import finite

    least = min(matrix.shape)
    if least < LARGE or rank > FEW * least or not finite(matrix):
        return _whole(matrix, rank)
    try:
        return _lanczos(matrix, rank)
    except ArpackError:
        return _whole(matrix, rank)


def _whole(matrix, rank: int):
    import torch

    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


def _lanczos(matrix, rank: int):
    import numpy as np
    import torch
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, values, right = svds(matrix.cpu().double().numpy(), rank, v0=start)
    falling = left[:, ::-1], values[::-1], right[::-1]
    return tuple(torch.from_numpy(part.copy()).to(matrix) for part in falling)
