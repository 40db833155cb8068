"""Where intermediate results lie: each at its offset in one block, where no other lies that is needed at the same time.

Places are given to the largest first, each the lowest that is free as long as it lives (Pisarchyk and Lee, 2020,
"Efficient Memory Management for Deep Neural Net Inference", greedy by size). On several threads those that share a
place have their middles in common.
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


def places(lives: Mapping[str, Life], threads: int = 1) -> dict[str, int]:
    """The offset of each tensor in bytes, a multiple of ALIGNMENT_BYTES."""
    return _lowest_places(lives) if threads == 1 else _centred_places(lives)


def _by_size(lives: Mapping[str, Life]) -> list[str]:
    return sorted(lives, key=lambda name: (-lives[name].size, lives[name].first))


def _lowest_places(lives: Mapping[str, Life]) -> dict[str, int]:
    placed: dict[str, int] = {}
    for name in _by_size(lives):
        beside = [(placed[other], _end(placed[other], lives[other])) for other in placed if lives[other].meets(lives[name])]
        placed[name] = _lowest(lives[name].size, sorted(beside))
    return placed


def _centred_places(lives: Mapping[str, Life]) -> dict[str, int]:
    """Tensors that never meet around one middle. Threads share an image by rows, so that the first of two writes below the
    middle and the second above it, whatever the sizes: neither has to fetch the lines that it overwrites from the other's core,
    which takes longer than computing them if the cores share no cache."""
    placed, begin = {}, 0
    for names in _apart(lives):
        middle = begin + max(_half(lives[name]) for name in names)
        placed |= {name: middle - _half(lives[name]) for name in names}
        begin = max(_end(placed[name], lives[name]) for name in names)
    return placed


def _half(life: Life) -> int:
    return -(-life.size // (2 * ALIGNMENT_BYTES)) * ALIGNMENT_BYTES


def _apart(lives: Mapping[str, Life]) -> list[list[str]]:
    """Groups of tensors that never meet, few."""
    groups: list[list[str]] = []
    for name in _by_size(lives):
        free = (group for group in groups if not any(lives[other].meets(lives[name]) for other in group))
        group = next(free, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


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
