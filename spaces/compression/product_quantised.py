"""Product quantisation of weights (Gong et al., Compressing deep convolutional networks using vector quantization, 2014 [33]; Wu
et al., Quantized convolutional neural networks, 2016 [39], for convolutions).

The inputs are cut into segments of a few channels; k-means (Lloyd, 1982, from k-means++) over the sub-vectors of all outputs
and kernel positions gives 2^bits vectors a segment, or one table for the whole layer, whose cost is shared by all segments.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, POINTWISE
from spaces.gene import SpaceError, check_choice, check_range
from spaces.method import QUANTISE, Compression

# Sub-vectors that k-means looks at; all are then coded. Rounds after which centroids hardly move.
SAMPLE, ROUNDS = 1 << 16, 30


@dataclass(frozen=True)
class ProductQuantised(Compression):
    """A code of `bits` for every `segment` inputs; `tables`: one for the `layer`, or one for each of its `segments`."""

    SOURCE: ClassVar[str] = "Gong et al., 2014 [33]; Wu et al., 2016 [39]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DENSE)
    GAIN: ClassVar[str] = "bytes: bits for `segment` weights; time in large dense layers: sums of tabulated products"
    SETTINGS: ClassVar[tuple[str, ...]] = ("product_quantised-segment2-bits4", "product_quantised-segment4-bits4")
    segment: int = 2
    bits: int = 4
    tables: str = "layer"

    def __post_init__(self):
        check_range("product_quantised segment", self.segment, 2, 16)
        check_range("product_quantised bits", self.bits, 1, 8)
        check_choice("product_quantised tables", self.tables, ("layer", "segments"))

    def prepare(self, layer):
        import torch

        from spaces.codebook import mask_of, share, sub_vectors

        if mask_of(layer) is not None:
            raise SpaceError(f"{self} cannot follow magnitude: sub-vectors would mix kept and removed weights; take codebook")
        vectors = sub_vectors(layer.weight.detach(), self.segment)
        entries = min(2**self.bits, vectors[..., 0].numel() if self.tables == "layer" else vectors[:, 0, :, 0].numel())
        if self.tables == "layer":
            codes = _codes(vectors.flatten(0, 2), entries).view(vectors.shape[:3])
            return share(layer, codes, (1, entries, self.segment))
        each = [_codes(vectors[:, i].flatten(0, 1), entries).view(len(vectors), -1) for i in range(vectors.shape[1])]
        return share(layer, torch.stack(each, 1), (len(each), entries, self.segment))


def _codes(vectors, entries: int):
    """The number of each vector's nearest centroid; vectors float32 [n, length], n >= entries."""
    import torch
    from sklearn.cluster import KMeans

    sample = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:SAMPLE]]
    different = len(sample.unique(dim=0))
    table = KMeans(min(entries, different), n_init=1, max_iter=ROUNDS, random_state=0).fit(sample.numpy()).cluster_centers_
    return torch.cat([torch.cdist(part, torch.from_numpy(table).to(part)).argmin(1) for part in vectors.split(SAMPLE)])
