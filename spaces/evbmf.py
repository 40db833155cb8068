"""The rank of a matrix under noise, by empirical variational Bayes (Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic solution of
fully-observed variational Bayesian matrix factorization", JMLR 14, 2013; [68] takes the ranks of a Tucker decomposition from it).

The matrix is a product of two with Gaussian priors, whose variances are learnt, plus Gaussian noise of variance s. With L <= M its sides,
alpha = L / M, and g_h its singular values, the global solution keeps exactly those with

    g_h^2 > M s x_,    x_ = (1 + t_) (1 + alpha / t_),    where  phi(t_) + phi(t_ / alpha) = 0,  phi(z) = log(1 + z) / z - 1/2

The noise variance is estimated too: the s that minimises the free energy, with x_h = g_h^2 / (M s),

    sum_h (x_h - log x_h) + sum over x_h > x_ of (log(t_h + 1) + alpha log(t_h / alpha + 1) - t_h),
    t_h = (x_h - (1 + alpha) + sqrt((x_h - (1 + alpha))^2 - 4 alpha)) / 2

It has a lower and an upper bound, between which the free energy may have several minima.
"""

import numpy as np

GRID = 1000  # noise variances at which the free energy is looked at first


def rank_of(matrix: np.ndarray) -> int:
    """How many singular values of a real matrix [m, n] are not noise: 0 to min(m, n)."""
    low, high = sorted(matrix.shape)
    return _rank(np.linalg.svd(matrix, compute_uv=False)**2 / high, low / high)


def _rank(eigenvalues: np.ndarray, alpha: float) -> int:
    """The same, of the squares g_h^2 / M, falling."""
    threshold = _threshold(alpha)
    return int((eigenvalues > _noise(eigenvalues, alpha, threshold) * threshold).sum())


def _threshold(alpha: float) -> float:
    """x_."""
    from scipy.optimize import brentq

    def phi(z):
        return np.log1p(z) / z - 0.5
    # t_ of a square matrix is 2.51; the sum falls, and changes sign between alpha times that and that
    t = brentq(lambda t: phi(t) + phi(t / alpha), 2 * alpha, 3)
    return (1 + t) * (1 + alpha / t)


def _noise(eigenvalues: np.ndarray, alpha: float, threshold: float) -> float:
    """The noise variance of least free energy."""
    from scipy.optimize import minimize_scalar

    most = min(int(np.ceil(len(eigenvalues) / (1 + alpha))) - 1, len(eigenvalues) - 1)  # values that may be more than noise
    high = eigenvalues.mean()
    low = max(eigenvalues[most] / threshold, eigenvalues[most:].mean(), high * 1e-12)
    if low >= high:  # all values are the same
        return high
    grid = np.geomspace(low, high, GRID)
    best = int(np.argmin([_free_energy(s, eigenvalues, alpha, threshold) for s in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(_free_energy, bounds=around, args=(eigenvalues, alpha, threshold), method="bounded")
    return min(found.x, grid[best], key=lambda s: _free_energy(s, eigenvalues, alpha, threshold))


def _free_energy(noise: float, eigenvalues: np.ndarray, alpha: float, threshold: float) -> float:
    x = np.maximum(eigenvalues, 1e-300) / noise
    kept = x[x > threshold]
    t = (kept - (1 + alpha) + np.sqrt((kept - (1 + alpha))**2 - 4 * alpha)) / 2
    return (x - np.log(x)).sum() + (np.log(t + 1) + alpha * np.log(t / alpha + 1) - t).sum()
