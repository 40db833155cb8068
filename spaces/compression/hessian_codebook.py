"""Codebooks that weigh each weight by its curvature (Choi, El-Khamy and Lee, Towards the limit of network quantization, 2017 [48]).

Moving weight w_i to the value c raises the loss by h_i (w_i - c)^2 / 2, with h_i the diagonal of the Hessian of the mean cross entropy
on calibration images (`spaces.site`). Hessian-weighted k-means gives at most 2^bits values a layer: a weight goes to the nearest,

    c_j = sum h_i w_i / sum h_i

over the weights of cluster j (section 3.3); of a cluster without any curvature, the plain mean. With a `multiplier` lambda above zero
the values are those of entropy-constrained scalar quantisation (section 4.2): from the clusters of k-means, a weight goes by turns to

    argmin_j h_i (w_i - c_j)^2 - lambda log2 p_j,

p_j being the share of weights in cluster j, the c_j and p_j follow, and empty clusters go. lambda is twice the loss that a bit may cost,
the same in all layers; `huffman` behind it in the chain realises those bits. The values are then trained as those of `codebook`.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import QUANTISE, Compression

ROUNDS = 100


@dataclass(frozen=True)
class HessianCodebook(Compression):
    """At most 2^bits values a layer, chosen by what they do to the loss; `multiplier`: what a bit of entropy costs, 0 for nothing."""

    SOURCE: ClassVar[str] = "Choi et al., 2017 [48]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits of 32, with huffman the entropy of the codes; time in large dense layers"
    bits: int = 4
    multiplier: float = 0.0

    def __post_init__(self):
        check_range("hessian_codebook bits", self.bits, 1, 8)
        check_range("hessian_codebook multiplier", self.multiplier, 0, 1)

    @property
    def shapes_fixed(self) -> bool:
        """How many clusters are left depends on the trained weights."""
        return self.multiplier == 0

    def prepare_at(self, site):
        import torch

        from spaces.codebook import mask_of, share

        layer, mask, curvature = site.layer, mask_of(site.layer), self._curvature(site)
        weight = layer.weight.detach()
        kept = torch.ones_like(weight) != 0 if mask is None else mask != 0
        centroids, found = self._clustered(weight[kept], curvature[kept])
        codes = torch.zeros_like(weight, dtype=torch.int64).masked_scatter_(kept, found)
        share(layer, codes.view(*weight.shape[:2], -1), (1, len(centroids), 1), mask)
        with torch.no_grad():
            layer.parametrizations.weight.original.copy_(centroids.view(1, -1, 1))
        return layer

    def _curvature(self, site):
        """The layer's curvature; SpaceError if it says nothing."""
        from spaces.trace import finite

        if not finite(site.curvature):
            raise SpaceError(f"{self}: the curvature is not finite; the network overflows on the calibration images")
        if self.multiplier and not site.curvature.any():
            raise SpaceError(f"{self}: no calibration image shows any curvature, so that no bit would pay; take codebook")
        return site.curvature

    def _clustered(self, values, curvature):
        """The centroids, and the number of each value's."""
        from spaces.clusters import clusters, nearest

        centroids = clusters(values, 2**self.bits, curvature)
        codes = nearest(values, centroids)
        return entropy_constrained(values, curvature, codes, self.multiplier) if self.multiplier else (centroids, codes)


def entropy_constrained(values, curvature, codes, multiplier: float):
    """The clusters of values float32 [n] that their curvature [n] and a bit's cost lead to from those of `codes`, int64 [n]: centroids
    float32 [k], and int64 [n] codes below k, each of which occurs."""
    import torch

    centroids, codes, bits = _updated(values, curvature, codes)
    for _ in range(ROUNDS):
        chosen = _cheapest(values.double(), curvature, centroids, multiplier * bits)
        if torch.equal(chosen, codes):
            break
        centroids, codes, bits = _updated(values, curvature, chosen)
    return centroids, codes


def _updated(values, curvature, codes):
    """The centroids of the clusters that are not empty, the codes by their number, and the bits -log2 p of each."""
    from spaces.clusters import means

    used, codes, sizes = codes.unique(return_inverse=True, return_counts=True)
    return means(values, curvature, codes, len(used)), codes, -(sizes.double() / len(codes)).log2()


def _cheapest(values, curvature, centroids, costs):
    """The cluster of least cost for each value; one cluster after the other, since all together would take n times k numbers."""
    import torch

    best, least = torch.zeros(len(values), dtype=torch.int64), torch.full_like(values, torch.inf)
    for number, (centroid, cost) in enumerate(zip(centroids.double(), costs)):
        total = curvature * (values - centroid) ** 2 + cost
        best[total < least] = number
        least = torch.minimum(least, total)
    return best
