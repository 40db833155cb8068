"""One candidate under evaluation: its deployed network, exported program, data and folder of files."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from evaluators.training.data import Dataset


@dataclass(frozen=True)
class Subject:
    """What evaluators look at. `timing` compiles, verifies and measures, and gives timing.json's content."""

    network: "torch.fx.GraphModule"
    program: "torch.export.ExportedProgram"
    dataset: "Dataset"
    timing: Callable[[], dict[str, Any]] = field(repr=False)


def export_program(network, dataset) -> "torch.export.ExportedProgram":
    """The deployed network as an exported program for one image."""
    import torch

    example = torch.zeros(1, *dataset.shape)
    return torch.export.export(network, (example,))


def save(network, program, candidate, folder: Path) -> None:
    """Writes candidate.txt, weights.safetensors and model.pt2 into `folder`."""
    import torch
    from safetensors.torch import save_file

    (folder / "candidate.txt").write_text(f"{candidate}\n")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()},
              folder / "weights.safetensors")
    torch.export.save(program, folder / "model.pt2")
