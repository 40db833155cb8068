"""Some rows of an array that may be mapped from disk: they are read when they are asked for, so that a split of a data set costs the
memory of its row numbers, and processes share the pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True)
class Rows:
    """The rows of `source` [M, ...] that `numbers`, int64 [N], name, in that order."""

    source: torch.Tensor
    numbers: torch.Tensor

    @classmethod
    def of(cls, rows: "torch.Tensor | Rows") -> Self:
        """All rows of a tensor."""
        return rows if isinstance(rows, cls) else cls(rows, torch.arange(len(rows)))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> torch.Size:
        """[N, ...]."""
        return torch.Size([len(self), *self.source.shape[1:]])

    def __getitem__(self, chosen) -> torch.Tensor:
        """A copy of those that an index, a mask or a slice chooses."""
        return self.source[self.numbers[chosen]]

    def at(self, chosen) -> Self:
        """Those that an index, a mask or a slice chooses, not read yet."""
        return type(self)(self.source, self.numbers[chosen])

    def split(self, count: int) -> Iterator[torch.Tensor]:
        """Copies of so many at a time."""
        return (self.source[part] for part in self.numbers.split(count))
