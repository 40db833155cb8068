"""One-dimensional k-means (Lloyd, 1982) of numbers of which some may count for more than others.

From centroids evenly between the least and the largest, which keeps centroids for the few large numbers (Han et al., 2016, section 3.2),
by turns each number goes to its nearest centroid, and each centroid to the weighted mean sum(h w) / sum(h) of its numbers w.
"""

import torch

ROUNDS = 100


def clusters(values: torch.Tensor, count: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The centroids, ascending; values that are no more than `count` different ones are the centroids themselves. A centroid that loses
    all its values moves to the value farthest from its own. values float32 [n], n > 0; weights [n], not negative, None for ones."""
    weights = torch.ones_like(values) if weights is None else weights
    different = values.unique()
    if len(different) <= count:
        return different
    centroids = torch.linspace(float(different[0]), float(different[-1]), count)
    for _ in range(ROUNDS):
        codes = nearest(values, centroids)
        moved, empty = means(values, weights, codes, count), torch.bincount(codes, minlength=count) == 0
        distance = (different - centroids[nearest(different, centroids)]).abs()
        moved[empty] = different[distance.topk(int(empty.sum())).indices]
        moved = moved.sort().values
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def nearest(values: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The number of each value's nearest centroid (ascending); int64 [n]."""
    return torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)


def means(values: torch.Tensor, weights: torch.Tensor, codes: torch.Tensor, count: int) -> torch.Tensor:
    """The weighted mean of the values of each code below `count`, float32 [count]: the plain one where no value has any weight, zero
    where there is no value."""
    def sums(numbers: torch.Tensor) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64).index_add_(0, codes, numbers.double())
    weight, plain = sums(weights), sums(values) / torch.bincount(codes, minlength=count).clamp(min=1)
    return torch.where(weight > 0, sums(weights.double() * values) / weight.where(weight > 0, 1), plain).float()
