"""Removing weights by the inverse of a Hessian (Hassibi and Stork, Second order derivatives for network pruning: Optimal brain surgeon,
1993): which go, and what the others become.

Where the gradient is zero, the loss rises by dw^T H dw / 2. The best dw that makes weight q zero, and its rise, are (equation 5)

    dw = -w_q / [H^-1]_qq  H^-1 e_q,    L_q = w_q^2 / (2 [H^-1]_qq).

Then row and column q leave the inverse, so that no later dw moves the weight again (Schur's complement):

    H^-1 <- H^-1 - H^-1 e_q e_q^T H^-1 / [H^-1]_qq.

Rows are sets of weights of which none bears on another row's loss. All numbers are float64.
"""

import torch

from spaces.gene import SpaceError

BLOCK = 32  # deletions after which the inverse is made smaller


def inverse_of(hessian: torch.Tensor) -> torch.Tensor:
    """The inverses of matrices [..., n, n], by Cholesky's factors. SpaceError if one is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if failed.any():
        raise SpaceError("the Hessian cannot be inverted; take more damping")
    return torch.cholesky_inverse(factor)


def deletions(inverse: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In which order each row's weights go, int64 [rows, n], and what the loss rises by each time, [rows, n]. inverse: [rows, n, n] of all
    weights; weights: [rows, n]."""
    numbers, taken = torch.arange(weights.shape[1]).expand(weights.shape), []
    while numbers.shape[1]:
        weights, left = weights.clone(), torch.ones_like(weights, dtype=torch.bool)
        columns = weights.new_zeros(len(weights), min(BLOCK, weights.shape[1]), weights.shape[1])
        for step in range(columns.shape[1]):
            q, loss = _delete(inverse, columns, step, weights, left)
            taken.append((numbers.gather(1, q.unsqueeze(1)), loss))
        rest = left.nonzero()[:, 1].view(len(left), -1)
        inverse = _of_rest(inverse, columns, rest)
        weights, numbers = weights.gather(1, rest), numbers.gather(1, rest)
    order, losses = zip(*taken)
    return torch.cat(order, 1), torch.stack(losses, 1)


def _delete(inverse, columns, step: int, weights, left) -> tuple[torch.Tensor, torch.Tensor]:
    """The cheapest weight of each row goes: its place and cost. `columns` [rows, BLOCK, n], of which `step` are full, times their
    transpose are still to be taken off the inverse."""
    row, full = torch.arange(len(weights)), columns[:, :step]
    diagonal = inverse.diagonal(dim1=1, dim2=2) - full.square().sum(1)
    loss, q = torch.where(left, weights**2 / (2 * diagonal), torch.inf).min(1)
    column = inverse[row, q] - torch.einsum("rsn,rs->rn", full, full[row, :, q])
    pivot = column[row, q].unsqueeze(1)
    weights -= weights[row, q].unsqueeze(1) / pivot * column
    columns[:, step] = column / pivot.sqrt()
    left[row, q] = False
    return q, loss


def _of_rest(inverse, columns, rest) -> torch.Tensor:
    """The inverse of the weights at the places `rest` [rows, m], once the others are gone."""
    places = rest.unsqueeze(1).expand(-1, len(columns[0]), -1)
    columns = columns.gather(2, places)
    inner = inverse.gather(1, rest.unsqueeze(2).expand(-1, -1, inverse.shape[2])).gather(2, rest.unsqueeze(1).expand(-1, rest.shape[1], -1))
    return inner.baddbmm_(columns.mT, columns, alpha=-1)


def cheapest(order: torch.Tensor, losses: torch.Tensor, count: int) -> torch.Tensor:
    """What is kept, bool [rows, n], once `count` weights of all rows have gone, always the cheapest next one of any row. Arguments as
    `deletions` gives them."""
    # A cheap deletion behind a dear one comes with it.
    first = losses.cummax(1).values.flatten().argsort(stable=True)[:count]
    kept = torch.ones_like(losses, dtype=torch.bool).flatten().index_fill(0, first, False).view_as(losses)
    return torch.empty_like(kept).scatter_(1, order, kept)


def refitted(hessian: torch.Tensor, weights: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The weights [n] of a row after those that are not `kept` (bool [n]) are gone: all their dw together, which is the least rise of
    the loss in the others, H_KK w'_K = (H w)_K. hessian: [n, n]."""
    aims = (hessian @ weights)[kept].unsqueeze(1)
    found = torch.cholesky_solve(aims, torch.linalg.cholesky(hessian[kept][:, kept]))
    return torch.zeros_like(weights).masked_scatter_(kept, found)
