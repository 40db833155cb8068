"""Block-sparse weights (Gray, Radford and Kingma, 2017; Narang et al., Block-sparse recurrent neural networks, 2017): whole
blocks of a trained layer's weights become zero and stay zero while the others are trained on.

A block is `rows` output channels by `columns` input channels of one pixel of the kernel: those of smallest Euclidean norm
go. Stored as one mask bit a block and the kept blocks, where that is smaller than all values; biases are not pruned.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, POINTWISE
from spaces.gene import check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class BlockSparse(Compression):
    """Zeroes the blocks of smallest norm; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "Gray et al., 2017; Narang et al., 2017"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DENSE)
    GAIN: ClassVar[str] = "bytes, time: only kept blocks are stored, loaded and multiplied"
    SETTINGS: ClassVar[tuple[str, ...]] = (
        "block_sparse-rows16-keep0.5", "block_sparse-rows16-keep0.2", "block_sparse-rows16-keep0.1", "block_sparse-rows4-columns4-keep0.2")
    keep: float = 0.25
    rows: int = 16
    columns: int = 1

    def __post_init__(self):
        check_range("block_sparse keep", self.keep, 0.001, 1)
        check_range("block_sparse rows", self.rows, 1, 64)
        check_range("block_sparse columns", self.columns, 1, 64)

    def prepare(self, layer):
        from torch.nn.utils import parametrize

        from spaces.block_mask import BlockMask, largest_blocks
        from spaces.prepared import check_unshared

        check_unshared(layer, self)
        mask = largest_blocks(layer.weight.detach(), self.rows, self.columns, self.keep)
        parametrize.register_parametrization(layer, "weight", BlockMask(mask, self.rows, self.columns))
        return layer
