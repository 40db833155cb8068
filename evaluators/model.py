"""A network by name: a `module:function`, a .pt2 or .onnx file, NAME@SIZE of the zoo, or a candidate as text."""

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class ModelError(ValueError):
    """A network that cannot be read: names it, and what would be right."""


@dataclass(frozen=True)
class Model:
    """`network`: the torch module; `program`: exported for one input, batch norms folded; `image`: a random input;
    `onnx`: its ONNX file if it came as one."""

    network: Any
    program: "ExportedProgram"
    image: np.ndarray
    onnx: Path | None = None

    def as_onnx(self, folder: Path) -> Path:
        """The ONNX file, written into the folder if there is none yet; ModelError if the network has operations that ONNX has
        not."""
        import torch

        if self.onnx is not None:
            return self.onnx
        path = folder / "model.onnx"
        try:
            torch.onnx.export(self.network, (torch.from_numpy(self.image),), path, dynamo=True, verbose=False,
                              external_data=False)
        except torch.onnx.OnnxExporterError:
            raise ModelError("the network has operations that ONNX has not, as compressed candidates do; leave onnxruntime and"
                             " openvino out of --vs") from None
        return path


def load_model(text: str, shape: tuple[int, ...]) -> Model:
    """The network that `text` names, for inputs of `shape`; zoo networks and files know their own."""
    if text.endswith(".pt2"):
        return _from_program(_file(text))
    if text.endswith(".onnx"):
        return _from_onnx(_file(text))
    name, at, size = text.partition("@")
    if at:
        if not size.isdigit():
            raise ModelError(f"{text!r}: the image size {size!r} is no whole number, as in mobilenet_v2@224")
        from spaces import zoo

        return from_module(zoo.network(name, int(size), 1000 if int(size) > 64 else 10), (1, 3, int(size), int(size)))
    if "/" in text and ":" in text.split()[0]:
        return from_module(_candidate(text, shape), shape)
    return from_module(_called(text), shape)


def _candidate(text: str, shape: tuple[int, ...]):
    """The network of a candidate, untrained and compressed as it says; batch norms and integers have the statistics and ranges
    of random images."""
    import torch

    from evaluators.pipeline import compressed
    from spaces.build import build
    from spaces.candidate import Candidate
    from spaces.compress import prepare
    from spaces.freeze import freeze
    from spaces.site import Calibration
    from spaces.zoo import settled

    torch.manual_seed(0)
    candidate, images = Candidate.parse(text), torch.randn(4, *shape[1:])
    network = settled(build(candidate, shape[1:]), images)
    if compressed(candidate):
        network = freeze(prepare(network, candidate.chains, Calibration.unlabelled(images), lambda n: settled(n, images)))
    return network


def from_module(network, shape: tuple[int, ...]) -> Model:
    """A torch module in eval mode."""
    import torch

    from spaces.fold import exported

    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return Model(network.eval(), exported(network, image), image.numpy())


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise ModelError(f"{text}: no such file")
    return Path(text)


def _called(text: str):
    sys.path.insert(0, os.getcwd())
    module, colon, function = text.partition(":")
    if not colon:
        raise ModelError(f"{text!r} is no model; give FILE.onnx, FILE.pt2, module:function or NAME@SIZE of the zoo")
    try:
        return getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{text!r}: {error}") from None


def _from_program(path: Path) -> Model:
    import torch

    import spaces.ops
    from spaces.fold import folded

    spaces.ops.register_all()
    program = torch.export.load(path)
    shape, = (node.meta["val"].shape for node in program.graph.nodes
              if node.op == "placeholder" and node.name in program.graph_signature.user_inputs)
    sides = [side if isinstance(side, int) else 1 for side in shape]  # 1 where a dimension is open
    image, network = torch.randn(sides, generator=torch.Generator().manual_seed(0)), program.module()
    if sides != list(shape):
        program = torch.export.export(network, (image,))
    return Model(network, folded(program, image), image.numpy())


def _from_onnx(path: Path) -> Model:
    from evaluators.onnx_import import read_onnx

    network, shape = read_onnx(path)
    model = from_module(network, shape)
    return Model(network, model.program, model.image, path)
