"""A training run kept on disk, so that one that was killed goes on from there and ends with the same numbers.

One safetensors file: the network, the optimiser, the running mean of the weights, the recipes' state and the random numbers' state;
numbers and what the run is, as JSON, in its header. It is written aside, then renamed.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

EVERY_S = 10.0


@dataclass
class Checkpoint:
    """`key` says which run it is; a file of another is not read."""

    file: Path
    key: str
    _written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether the last one is old enough to be worth another."""
        return time.monotonic() - self._written >= EVERY_S

    def write(self, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
        """Keeps these in place of what was kept."""
        from safetensors.torch import save_file

        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(".aside")
        whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        save_file(whole, aside, {"key": self.key, "numbers": json.dumps(numbers)})
        os.replace(aside, self.file)
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was kept of this run, or None."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file, "pt") as kept:
                header = kept.metadata() or {}
                if header.get("key") != self.key:
                    return None
                return {name: kept.get_tensor(name) for name in kept.keys()}, json.loads(header["numbers"])
        except (FileNotFoundError, SafetensorError):
            return None


def named(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those that `named` put there."""
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
