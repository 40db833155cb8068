"""Tensor-train layers (Novikov et al., 2015 [49]): the weight matrix, with inputs and outputs numbered by several indices,
as a chain of small cores, found by TT-SVD (Oseledets, 2011) and trained on. The layer stays dense where the cores would
not be smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import DENSE, POINTWISE
from spaces.gene import check_range
from spaces.method import FACTORISE, Compression


@dataclass(frozen=True)
class TensorTrain(Compression):
    """Weights as `dims` cores of at most the given rank."""

    SOURCE: ClassVar[str] = "Novikov et al., 2015 [49]; Oseledets, 2011"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: the cores; time: a chain of small products where that is faster"
    SETTINGS: ClassVar[tuple[str, ...]] = ("tensor_train-rank16", "tensor_train-rank4")
    rank: int = 4
    dims: int = 3

    def __post_init__(self):
        check_range("tensor_train rank", self.rank, 1, 1 << 12)
        check_range("tensor_train dims", self.dims, 2, 6)

    def prepare(self, layer):
        from spaces.tensor_train import as_train

        return as_train(layer, self.dims, self.rank)
