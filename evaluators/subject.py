"""One candidate under evaluation: its deployed network, exported program and files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

    from evaluators.training.data import Dataset


COPIED = ("model.so", "weights.safetensors", "candidate.txt")


class FilesError(ValueError):
    """A candidate's files that are missing, corrupt or do not run: names the file and what to do."""


@dataclass(frozen=True)
class Subject:
    """What evaluators look at. `timing` compiles, verifies and measures, and gives timing.json's content."""

    network: "fx.GraphModule"
    program: "ExportedProgram"
    dataset: "Dataset"
    timing: Callable[[], dict[str, Any]]


def export_program(network: "fx.GraphModule", dataset: "Dataset") -> "ExportedProgram":
    """The deployed network as an exported program for one image."""
    import torch

    return torch.export.export(network, (torch.zeros(1, *dataset.shape),))


def save(network: "fx.GraphModule", program: "ExportedProgram", candidate: str, folder: Path) -> None:
    """Writes candidate.txt, weights.safetensors and model.pt2 into `folder`."""
    import torch
    from safetensors.torch import save_file

    (folder / "candidate.txt").write_text(f"{candidate}\n")
    save_file(network.state_dict(), folder / "weights.safetensors")
    torch.export.save(program, folder / "model.pt2")


def check_files(folder: Path) -> None:
    """FilesError unless a candidate's folder has all its files and its weights can be read."""
    from safetensors import SafetensorError, safe_open

    for name in (*COPIED, "model.pt2", "timing.json"):
        if not (folder / name).is_file():
            raise FilesError(f"{folder / name} is missing; restore it from a copy, or score the candidate in a new study")
    try:
        with safe_open(folder / "weights.safetensors", "np") as file:
            [file.get_tensor(name) for name in file.keys()]
    except SafetensorError as error:
        raise FilesError(f"{folder / 'weights.safetensors'} is corrupt ({error}); restore it from a copy, or score the"
                         " candidate in a new study") from None
