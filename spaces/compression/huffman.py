"""Huffman coding of what is stored (Han et al., Deep compression, 2016, section 4 [12]; Huffman, 1952): every stored tensor of the
layer, whatever stands before in the chain, is written in canonical Huffman codes and read back byte for byte when the network is
loaded. Pays where symbols are unevenly frequent: codes of a codebook, bitmaps, integer weights.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.method import STORE, Compression


@dataclass(frozen=True)
class Huffman(Compression):
    """Canonical Huffman codes, table included; what would grow is stored as it is."""

    SOURCE: ClassVar[str] = "Han et al., 2016 [12]; Huffman, 1952"
    PHASE: ClassVar[int] = STORE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: down to the entropy of codes, bitmaps and integers; no time, decoded when loaded"

    @property
    def shapes_fixed(self) -> bool:
        """The bytes depend on the trained weights."""
        return False
