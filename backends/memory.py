"""Where intermediate results lie: each at its offset in one block, where no other lies that is needed at the same time.

Places are given to the largest first, each the lowest that is free as long as it lives (Pisarchyk and Lee, 2020,
"Efficient Memory Management for Deep Neural Net Inference", greedy by size).
"""

from collections.abc import Mapping
from dataclasses import dataclass

ALIGNMENT_BYTES = 64  # a cache line, and the widest vector


@dataclass(frozen=True)
class Life:
    """A tensor of `size` bytes that is written at step `first` and read for the last time at step `last`."""

    size: int
    first: int
    last: int

    def meets(self, other: "Life") -> bool:
        """Whether both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def places(lives: Mapping[str, Life]) -> dict[str, int]:
    """The offset of each tensor in bytes, a multiple of ALIGNMENT_BYTES."""
    placed: dict[str, int] = {}
    for name in sorted(lives, key=lambda name: (-lives[name].size, lives[name].first)):
        beside = [(placed[other], _end(placed[other], lives[other])) for other in placed if lives[other].meets(lives[name])]
        placed[name] = _lowest(lives[name].size, sorted(beside))
    return placed


def total(placed: Mapping[str, int], lives: Mapping[str, Life]) -> int:
    """The size of the block in bytes."""
    return max((_end(offset, lives[name]) for name, offset in placed.items()), default=0)


def _lowest(size: int, taken: list[tuple[int, int]]) -> int:
    """The lowest offset with `size` bytes free, between ranges in order of their begin."""
    offset = 0
    for begin, end in taken:
        if offset + size <= begin:
            break
        offset = max(offset, end)
    return offset


def _end(offset: int, life: Life) -> int:
    return offset + -(-life.size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
