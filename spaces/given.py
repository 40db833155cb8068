"""A network that the user has, as one file: its steps, its tensors, and which of its layers can be compressed.

The file is safetensors with the steps as JSON in its header, and is called by the hash of its content. Candidates name a network by that
hash, so that they mean the same wherever the file is: files are looked for in the user's cache.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from spaces.block import Role
from spaces.gene import SpaceError

if TYPE_CHECKING:
    import torch
    from torch import fx

FORMAT, HEADER, DIGITS = 1, "netwright", 16
FUNCTIONS = ("add", "mul", "cat")
LAYERS = ("Conv2d", "Linear", "BatchNorm2d")
OTHERS = ("ReLU", "ReLU6", "Hardswish", "Hardsigmoid", "SiLU", "Sigmoid", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Flatten",
          "Dropout", "Dropout2d", "ConstantPad3d")


@dataclass(frozen=True)
class Step:
    """One step of a network, called `name`, on the results of others ("": the images). `kind`: a class of torch.nn that is made with
    `settings`, whose tensors are those below `name`; or one of FUNCTIONS."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: dict[str, object] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: dict) -> Self:
        """The step of a header's entry. ValueError if its kind is not known."""
        step = cls(**{**entry, "inputs": tuple(entry["inputs"])})
        if step.kind not in FUNCTIONS + LAYERS + OTHERS:
            raise ValueError(f"{step.name}: unknown kind {step.kind!r}")
        return step


@dataclass(frozen=True)
class Given:
    """`steps` in order, the last of which gives the logits; `roles`: the layers that can be compressed, by path; `shape`: of an image."""

    steps: tuple[Step, ...]
    roles: dict[str, Role]
    shape: tuple[int, int, int]
    classes: int

    def header(self) -> str:
        """As JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, header: str) -> Self:
        """The inverse of `header`. ValueError if it is none."""
        found = json.loads(header)
        if found.pop("format") != FORMAT:
            raise ValueError("of another version")
        return cls(tuple(map(Step.read, found["steps"])), {path: Role(**role) for path, role in found["roles"].items()},
                   tuple(found["shape"]), found["classes"])


def keep(given: Given, tensors: "dict[str, torch.Tensor]") -> str:
    """Writes a network into the cache; its hash."""
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {HEADER: given.header()})
    digest = hashlib.sha256(data).hexdigest()[:DIGITS]
    if not _sound(file_of(digest), digest):
        _put(file_of(digest), lambda aside: aside.write_bytes(data))
    return digest


def copy_to(digest: str, folder: Path) -> None:
    """Puts the network's file into a folder, unless it is there."""
    target = folder / file_of(digest).name
    if not target.is_file():
        _put(target, lambda aside: shutil.copyfile(file_of(digest), aside))


def copy_from(folder: Path) -> list[str]:
    """Puts the networks of a folder into the cache, if they are what their names say; their hashes."""
    found = {file.name.split(".")[1]: file for file in sorted(folder.glob("given.*.safetensors"))}
    for digest, file in found.items():
        if not _sound(file_of(digest), digest) and _sound(file, digest):
            _put(file_of(digest), lambda aside, file=file: shutil.copyfile(file, aside))
    return list(found)


def file_of(digest: str) -> Path:
    """Where the cache has a network."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netwright" / "networks" / f"given.{digest}.safetensors"


def _sound(file: Path, digest: str) -> bool:
    """Whether a file is there, and is what its name says."""
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest)


@cache
def given(digest: str) -> Given:
    """What the file of a network says. SpaceError if there is none, or it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file_of(digest), "np") as file:
            return Given.read((file.metadata() or {})[HEADER])
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SpaceError(f"the network {digest} cannot be read from {file_of(digest)} ({error}); `netwright resume DIR` of a study of it"
                         " puts it there again") from None


def module(digest: str) -> "fx.GraphModule":
    """The network with its weights, in eval mode. SpaceError as for `given`."""
    from safetensors.torch import load_file

    network = untrained(given(digest).steps)
    network.load_state_dict(load_file(file_of(digest)))
    return network.eval()


def untrained(steps: tuple[Step, ...]) -> "fx.GraphModule":
    """The network of some steps, with random weights."""
    import operator

    import torch
    from torch import fx, nn

    functions = {"add": operator.add, "mul": operator.mul, "cat": torch.cat}
    graph, modules, nodes = fx.Graph(), {}, {}
    nodes[""] = graph.placeholder("images")
    for step in steps:
        inputs = tuple(nodes[name] for name in step.inputs)
        if step.kind in functions:
            arguments = (inputs, 1) if step.kind == "cat" else inputs
            nodes[step.name] = graph.call_function(functions[step.kind], arguments)
        else:
            modules[step.name] = getattr(nn, step.kind)(**step.settings)
            nodes[step.name] = graph.call_module(step.name, inputs)
    graph.output(nodes[steps[-1].name])
    return fx.GraphModule(modules, graph)


def _put(file: Path, write) -> None:
    """Writes a file aside and renames it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    write(aside)
    os.replace(aside, file)
