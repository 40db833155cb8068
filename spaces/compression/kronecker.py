"""Kronecker product layers (Zhou and Wu, 2015 [61]): the weight matrix as a sum of Kronecker products A_r x B_r of two about
square factors. The nearest sum is a truncated singular value decomposition of the matrix with its blocks as rows (Van
Loan and Pitsianis, 1993), which is TT-SVD with two cores; so it is trained and stored as such. The layer stays dense where
the factors would not be smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DENSE, POINTWISE
from spaces.gene import check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class Kronecker(Compression):
    """Weights as a sum of `terms` Kronecker products."""

    SOURCE: ClassVar[str] = "Zhou and Wu, 2015 [61]; Van Loan and Pitsianis, 1993"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: the factors; time: two small products where that is faster"
    SETTINGS: ClassVar[tuple[str, ...]] = ("kronecker-terms4", "kronecker-terms1")
    terms: int = 1

    def __post_init__(self):
        check_range("kronecker terms", self.terms, 1, 1 << 12)

    def prepare(self, layer):
        from spaces.tensor_train import as_train

        return as_train(layer, 2, self.terms)
