"""Trained scalar quantisation: the weights of a layer share 2^bits values (Han et al., Deep compression, 2016, section 3 [12]).

One-dimensional k-means (Lloyd, 1982) over the weights of the layer, from centroids evenly between the least and the largest,
which keeps centroids for the few large weights; then the centroids are trained by the summed gradients of their weights. After
`magnitude` the kept weights alone are clustered, and stored as bitmap and codes.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import check_range
from spaces.method import QUANTISE, Compression


@dataclass(frozen=True)
class Codebook(Compression):
    """At most 2^bits values a layer, and a code of so many bits a weight."""

    SOURCE: ClassVar[str] = "Han et al., 2016 [12]"
    PHASE: ClassVar[int] = QUANTISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bits of 32; time in large dense layers, which read less memory"
    SETTINGS: ClassVar[tuple[str, ...]] = ("codebook-bits8", "codebook-bits4")
    bits: int = 4

    def __post_init__(self):
        check_range("codebook bits", self.bits, 1, 8)

    def prepare(self, layer):
        from spaces.clusters import clusters, nearest
        from spaces.codebook import mask_of, share

        mask, weight = mask_of(layer), layer.weight.detach()
        centroids = clusters(weight.flatten() if mask is None else weight[mask != 0], 2**self.bits)
        codes = nearest(weight.flatten(), centroids).view(*weight.shape[:2], -1)
        return share(layer, codes, (1, len(centroids), 1), mask)
