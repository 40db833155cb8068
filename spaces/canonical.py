"""Canonical polyadic decomposition: a tensor as a sum of R outer products of vectors, one along each mode (CP).

T ~ sum_r u1_r x u2_r x ... x uM_r is a nonlinear least squares problem in all factors U_m [I_m, R] at once, solved by damped Gauss-Newton
steps (Levenberg, 1944; Marquardt, 1963): (J^T J + d I) p = -g. J is never written down, since (Sorber, Van Barel and De Lathauwer, 2013)

    g_m = U_m W_m - T_(m) (product of the other factors, column by column),     W_m = product of U_k^T U_k over k not m, number by number
    (J^T J p)_m = P_m W_m + U_m sum over k not m of (W_mk * P_k^T U_k),          W_mk the same without k

so each step is found by conjugate gradients, preconditioned by the blocks W_m + d I, at a price that does not depend on the tensor's size.
It descends from the nearest of several random starts, moved by some sweeps of alternating least squares.

A best sum may not exist: terms grow without bound and cancel (De Silva and Lim, 2008). So each descent is one of the squares plus a small
penalty on those of the factors; where the norms of a sum's terms still add up to DEGENERATE times the tensor's, it goes on with more of it.
From the nearest sum found so it goes on without a penalty, and that sum is taken unless it is degenerate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, combinations
from math import prod

import numpy as np

from spaces.gene import SpaceError

DEGENERATE = 10.0
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3)  # of a tensor of norm 1
STARTS, SWEEPS, DESCENTS, STEPS = 20, 20, 3, 100
LEAST = 1e-8  # the least decrease of a squared error, as a part of it, that is worth another step
SMALLEST = 1e-12  # damping, without which terms that coincide would have no step
Factors = list[np.ndarray]


@dataclass(frozen=True)
class Sum:
    """A sum of outer products: `factors` [I_m, R], whose columns of one term have one norm, the terms' norms falling, and its distance
    from a tensor of norm 1."""

    factors: Factors
    error: float

    @property
    def norms(self) -> np.ndarray:
        """The norm of each term."""
        return _product([np.linalg.norm(factor, axis=0) for factor in self.factors])

    @property
    def degenerate(self) -> bool:
        """Whether terms are huge and cancel."""
        return not self.norms.sum() < DEGENERATE


def decomposed(tensor: np.ndarray, terms: int, solver: str = "nls") -> tuple[Factors, float]:
    """The factors of the nearest sum of so many terms that was found, by nonlinear least squares (`nls`) or alternating ones (`als`), and
    its distance from the tensor, of three or four modes, as a part of the tensor's norm. SpaceError if all that was found is degenerate."""
    scale = np.linalg.norm(tensor)
    sums = (nonlinear if solver == "nls" else alternating)(tensor / scale, terms)
    best = next((each for each in sums if not each.degenerate), None)
    if best is None:
        raise SpaceError(f"{terms} terms are degenerate: the sum of their norms is {sums[0].norms.sum():.3g} times the tensor's, and must"
                         f" be below {DEGENERATE:g}; take fewer")
    return [factor * scale ** (1 / tensor.ndim) for factor in best.factors], best.error


def nonlinear(tensor: np.ndarray, terms: int) -> list[Sum]:
    """Sums of so many terms, the nearest first, by descent from the best of the starts. `tensor`: of norm 1."""
    starts = _sorted(_normalised(tensor, _swept(tensor, _random(tensor, terms, seed))) for seed in range(STARTS))
    sums = _sorted(_sound(tensor, start) for start in starts[:DESCENTS])
    free = _descended(tensor, sums[0], 0.0)
    return sums if free.degenerate else [free, *sums]


def alternating(tensor: np.ndarray, terms: int) -> list[Sum]:
    """The same by alternating least squares alone, which stop sooner and in worse places."""
    from tensorly.decomposition import parafac

    def found(seed: int) -> Factors:
        result = parafac(tensor, terms, n_iter_max=3 * STEPS, init="random", tol=LEAST, random_state=seed)
        return [result.factors[0] * result.weights, *result.factors[1:]]
    return _sorted(_normalised(tensor, found(seed)) for seed in range(DESCENTS))


def least_terms(tensor: np.ndarray, error: float) -> int:
    """So many terms at least are in any sum at a distance of `error` times the tensor's norm: a sum of R terms, written as a matrix of some
    modes by the others, has rank R, and the singular values left out are a distance (Eckart and Young, 1936)."""
    rows = [modes for size in (1, 2) for modes in combinations(range(tensor.ndim), size)]
    return max(_rank_at(np.moveaxis(tensor, modes, range(len(modes))).reshape(prod(tensor.shape[m] for m in modes), -1), error)
               for modes in rows)


def _rank_at(matrix: np.ndarray, error: float) -> int:
    squares = np.square(np.linalg.svd(matrix, compute_uv=False))
    left_out = np.append(squares[::-1].cumsum()[::-1], 0)
    return int((left_out > error**2 * left_out[0]).sum())


def whole(factors: Factors) -> np.ndarray:
    """The tensor that the factors make."""
    left, right = _halves(factors)
    return (_columns(left) @ _columns(right).T).reshape([len(factor) for factor in factors])


def _sorted(sums: Iterable[Sum]) -> list[Sum]:
    return sorted(sums, key=lambda each: each.error)


def _normalised(tensor: np.ndarray, factors: Factors) -> Sum:
    lengths = [np.linalg.norm(factor, axis=0) for factor in factors]
    norms = _product(lengths)
    order = np.argsort(-norms, kind="stable")
    scaled = [(factor / np.maximum(length, 1e-300) * norms ** (1 / len(factors)))[:, order] for factor, length in zip(factors, lengths)]
    return Sum(scaled, float(np.linalg.norm(whole(scaled) - tensor)))


def _random(tensor: np.ndarray, terms: int, seed: int) -> Factors:
    """Normal factors whose sum has norm 1."""
    rng = np.random.default_rng(seed)
    factors = [rng.standard_normal((size, terms)) for size in tensor.shape]
    return [factor * np.linalg.norm(whole(factors)) ** (-1 / len(factors)) for factor in factors]


def _swept(tensor: np.ndarray, factors: Factors) -> Factors:
    """Some sweeps of alternating least squares."""
    for _ in range(SWEEPS):
        for m in range(len(factors)):
            block = _others([factor.T @ factor for factor in factors], m)
            damped = block + PENALTIES[0] * np.eye(len(block))
            factors[m] = np.linalg.solve(damped, _contracted(tensor, factors)[m].T).T
    return factors


def _sound(tensor: np.ndarray, at: Sum) -> Sum:
    """With the least penalty at which terms do not cancel."""
    for penalty in PENALTIES:
        at = _descended(tensor, at, penalty)
        if not at.degenerate:
            break
    return at


def _descended(tensor: np.ndarray, at: Sum, penalty: float) -> Sum:
    return _normalised(tensor, _parts(_Descent(tensor, penalty).from_start(at.factors), tensor))


class _Descent:
    """Levenberg and Marquardt's method for one tensor, its damping by Nielsen (1999). All factors are one array [sum I_m, R]."""

    def __init__(self, tensor: np.ndarray, penalty: float):
        self.tensor, self.penalty = tensor, penalty

    def from_start(self, factors: Factors) -> np.ndarray:
        at, growth = np.concatenate(factors), 2.0
        value, gradient, damping = self._value(at), self._gradient(at), 1e-3
        for _ in range(STEPS):
            step = self._step(at, gradient, damping)
            after = self._value(at + step)
            if not after < value:
                damping, growth = damping * growth, growth * 2
                if damping > 1e12:
                    break
                continue
            gain = (value - after) / (step * (damping * step - gradient)).sum() * 2
            decrease, at, value = (value - after) / value, at + step, after
            if decrease < LEAST or value < 1e-28:
                break
            gradient, damping, growth = self._gradient(at), max(SMALLEST, damping * max(1 / 3, 1 - (2 * gain - 1) ** 3)), 2.0
        return at

    def _value(self, at: np.ndarray) -> float:
        """Half the squared error and the penalty."""
        return (np.square(whole(_parts(at, self.tensor)) - self.tensor).sum() + self.penalty * np.square(at).sum()) / 2

    def _gradient(self, at: np.ndarray) -> np.ndarray:
        factors = _parts(at, self.tensor)
        return np.concatenate(_contracted(whole(factors) - self.tensor, factors)) + self.penalty * at

    def _step(self, at: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
        """The solution p above, by conjugate gradients."""
        from scipy.sparse.linalg import LinearOperator, cg

        factors, diagonal = _parts(at, self.tensor), self.penalty + damping
        modes, grams = range(len(factors)), [factor.T @ factor for factor in factors]
        blocks = [_others(grams, m) for m in modes]
        pairs = {(m, k): _others(grams, m, k) for m in modes for k in modes if k != m}
        inverses = [np.linalg.inv(block + diagonal * np.eye(len(block))) for block in blocks]

        def product(flat):
            parts = _parts(flat.reshape(at.shape), self.tensor)
            turned = [part.T @ factor for part, factor in zip(parts, factors)]
            return np.concatenate([parts[m] @ blocks[m] + factors[m] @ sum(pairs[m, k] * turned[k] for k in modes if k != m)
                                   for m in modes]).ravel() + diagonal * flat

        def preconditioned(flat):
            return np.concatenate([part @ inverse for part, inverse in zip(_parts(flat.reshape(at.shape), self.tensor), inverses)]).ravel()
        system, nearby = (LinearOperator((at.size, at.size), matvec=of, dtype=at.dtype) for of in (product, preconditioned))
        solution, _ = cg(system, -gradient.ravel(), rtol=1e-3, maxiter=60, M=nearby)
        return solution.reshape(at.shape)


def _parts(stacked: np.ndarray, tensor: np.ndarray) -> Factors:
    return np.split(stacked, list(accumulate(tensor.shape))[:-1])


def _contracted(tensor: np.ndarray, factors: Factors) -> Factors:
    """By mode the tensor unfolded along it, times the other factors, column by column: [I_m, R]."""
    left, right = _halves(factors)
    matrix = tensor.reshape(len(_columns(left)), -1)
    return [*_folded(matrix @ _columns(right), left), *_folded(matrix.T @ _columns(left), right)]


def _folded(matrix: np.ndarray, factors: Factors) -> Factors:
    """The same of a tensor of one more mode, in which each column is contracted with its own."""
    cube = matrix.reshape(*(len(factor) for factor in factors), -1)
    if len(factors) == 1:
        return [cube]
    return [np.einsum("abr,br->ar", cube, factors[1]), np.einsum("abr,ar->br", cube, factors[0])]


def _halves(factors: Factors) -> tuple[Factors, Factors]:
    """Modes for the rows and for the columns of the tensor as a matrix: one or two each."""
    return factors[:-2], factors[-2:]


def _columns(factors: Factors) -> np.ndarray:
    """The product of matrices column by column (Khatri and Rao): [product of I_m, R]."""
    return reduce(lambda a, b: (a[:, None] * b[None]).reshape(-1, a.shape[1]), factors)


def _others(grams: Factors, *left_out: int) -> np.ndarray:
    """The product, number by number, of all but these."""
    return _product([gram for k, gram in enumerate(grams) if k not in left_out])


def _product(arrays: Factors) -> np.ndarray:
    return reduce(np.multiply, arrays)
