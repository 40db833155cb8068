"""Rungs: how much training a candidate gets before its accuracy is believed, cheapest first.

    inherit       weights of the study's supernet, batch norms of its own, compressed; then a few batches to recover
    finetune:N    N epochs from the supernet's weights, or none, then `finetune_epochs` with the compressions in place
    full:N        N epochs from random weights, then `finetune_epochs` with the compressions in place

The supernet's anchor teaches those that inherit. Of a network that the user has, the supernet's weights are its own, trained on for
`epochs` of the study's [model], and it is its own anchor; `full` begins with them as they came. Fine-tuning trains before it compresses:
uncompressed weights bear the higher rate at which they forget what all candidates had in common.
Without a number, `finetune` and `full` train for `finetune_epochs` and `epochs` of the study's [train].
"""

from dataclasses import dataclass
from typing import Self

KINDS = ("inherit", "finetune", "full")


class RungError(ValueError):
    """A list of rungs that cannot be: names the entry and what would be right."""


@dataclass(frozen=True)
class Rung:
    """One of the steps above. `epochs`: 0 for `inherit`."""

    kind: str
    epochs: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "inherit" else f"{self.kind}:{self.epochs}"

    @property
    def inherits(self) -> bool:
        """Whether it begins with the supernet's weights."""
        return self.kind != "full"

    @classmethod
    def parse(cls, text: str, train) -> Self:
        """The rung that a text such as `finetune:2` spells; `train`: a study's [train] table."""
        kind, colon, epochs = text.partition(":")
        usual = {"inherit": 0, "finetune": train.finetune_epochs, "full": train.epochs}
        if kind not in KINDS or colon and (kind == "inherit" or not epochs.isdigit() or int(epochs) < (kind == "full")):
            raise RungError(f'{text!r} is no rung; write "inherit", "finetune:2" or "full:20", the numbers being epochs')
        return cls(kind, int(epochs) if colon else usual[kind])


def ladder(train) -> tuple[Rung, ...]:
    """The rungs of a study's [train] table. RungError unless each trains longer than the one before."""
    rungs = tuple(Rung.parse(text, train) for text in train.rungs)
    for lower, upper in zip(rungs, rungs[1:]):
        if (KINDS.index(lower.kind), lower.epochs) >= (KINDS.index(upper.kind), upper.epochs):
            raise RungError(f"{upper} cannot follow {lower}; the order is inherit, finetune, full, each with more epochs than before")
    return rungs
