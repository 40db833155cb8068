"""One candidate under evaluation: its deployed network, exported program and files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.candidate import Candidate
from spaces.weights import CODED_FILE, PLAIN_FILE, WeightsError, read

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

    from evaluators.training.data import Dataset


COPIED = ("model.so", PLAIN_FILE, "candidate.txt")


class FilesError(ValueError):
    """A candidate's files that are missing, corrupt or do not run: names the file and what to do."""


@dataclass(frozen=True)
class Subject:
    """What evaluators look at. `coded`: paths of the layers whose tensors are entropy coded; `timing` compiles, verifies and
    measures, and gives timing.json's content."""

    network: "fx.GraphModule"
    program: "ExportedProgram"
    dataset: "Dataset"
    coded: tuple[str, ...]
    timing: Callable[[], dict[str, Any]]


def export_program(network: "fx.GraphModule", dataset: "Dataset") -> "ExportedProgram":
    """The deployed network as an exported program for one image."""
    import torch

    return torch.export.export(network, (torch.zeros(1, *dataset.shape),))


def save(network: "fx.GraphModule", program: "ExportedProgram", candidate: Candidate, folder: Path) -> None:
    """Writes candidate.txt, weights.safetensors (and weights.nw where layers are entropy coded) and model.pt2 into `folder`."""
    import torch

    from spaces.compress import coded
    from spaces.huffman import write

    (folder / "candidate.txt").write_text(f"{candidate}\n")
    write({name: tensor.numpy() for name, tensor in network.state_dict().items()}, coded(candidate.chains), folder)
    torch.export.save(program, folder / "model.pt2")


def check_files(folder: Path) -> None:
    """FilesError unless a candidate's folder has all its files and its weights can be read."""
    for name in (*COPIED, "model.pt2", "timing.json"):
        if not (folder / name).is_file():
            raise FilesError(f"{folder / name} is missing; restore it from a copy, or score the candidate in a new study")
    try:
        read(folder)
    except WeightsError as error:
        raise FilesError(f"{error}; restore it from a copy, or score the candidate in a new study") from None


def files_to_copy(folder: Path) -> list[str]:
    """The files of a candidate's folder that an export takes as they are."""
    return [*COPIED, *([CODED_FILE] if (folder / CODED_FILE).is_file() else [])]
