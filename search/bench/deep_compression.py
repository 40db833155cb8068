"""The SqueezeNet that the authors of Deep Compression published (Han et al., 2016; Iandola et al., 2016), in our stored forms: every
layer as bitmap, codebook and Huffman codes. Its weights must come back exactly, in no more bytes than the authors' own file,
and the network must run compiled.

`$NETWRIGHT_DATA/models/squeezenet_deepcompression` (default: ../shared/data) holds that file and its weights decoded to floats.
"""

import os
import tempfile
from pathlib import Path

from rich.table import Table

from backends.worker import Worker
from search.bench import console

SOURCE = "https://github.com/songhan/SqueezeNet-Deep-Compression"
PUBLISHED, DECODED = "compressed_SqueezeNet.net", "squeezenet_v1.0_deepcompressed_fp32.npz"
CODEBOOK_BITS, SIZE, CLASSES, LIMIT_S = 8, 224, 1000, 600.0
PARTS = {"conv1x1_1": "squeeze", "conv1x1_2": "expand1x1", "conv3x3_2": "expand3x3"}


class BenchError(ValueError):
    """Data of a benchmark that is not there, or a result that breaks its promise."""


def run(target) -> dict:
    """Bytes by layer and file, the published bytes, and how the compiled network compares with torch."""
    from evaluators.score import environment

    folder = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / "models" / "squeezenet_deepcompression"
    for name in (PUBLISHED, DECODED):
        if not (folder / name).is_file():
            raise BenchError(f"{folder / name} is missing; set NETWRIGHT_DATA to the folder that holds"
                             f" models/squeezenet_deepcompression (from {SOURCE}, weights decoded by layer)")
    worker = Worker(environment(target.threads))
    try:
        return worker.call(stored_and_run, folder, target, timeout_s=LIMIT_S)
    finally:
        worker.close()


def stored_and_run(data: Path, target) -> dict:
    """In the worker: the network stored, read back, compared, compiled and run."""
    weights = decoded(data / DECODED)
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        frozen, counts = stored(weights, Path(folder))
        ran = _compiled(frozen, network(weights), target, Path(folder))
    published = (data / PUBLISHED).stat().st_size
    if counts["stored_bytes"] > published:
        raise BenchError(f"stored in {counts['stored_bytes']} bytes; the authors took {published}")
    return {"target": target.name, "threads": target.threads, "published_bytes": published, **counts, **ran}


def stored(weights: dict, folder: Path):
    """The frozen network with its tensors as they were written into the folder and read back, and the bytes they take.
    BenchError unless every weight came back exactly."""
    import torch

    from spaces.freeze import freeze
    from spaces.huffman import write
    from spaces.weights import read, sizes

    frozen = freeze(shared(network(weights)))
    write({name: tensor.numpy() for name, tensor in frozen.state_dict().items()}, list(weights), folder)
    frozen.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in read(folder).items()})
    wrong = [path for path, weight in unpacked(frozen).items() if not torch.equal(weight, weights[path]["weight"])]
    if wrong:
        raise BenchError(f"weights differ from the published ones after they are read back: {', '.join(wrong)}")
    files = sizes(folder)
    layers = [_layer(path, weights[path]["weight"], files) for path in weights]
    return frozen, {"stored_bytes": sum(layer["bytes"] for layer in layers), "layers": layers,
                    "file_bytes": sum((folder / file).stat().st_size for file in files)}


def decoded(file: Path) -> dict:
    """Weight and bias of each layer by its path in `network`."""
    import numpy as np
    import torch

    found: dict = {}
    for name, value in np.load(file).items():
        layer, _, part = name.rpartition(".")
        found.setdefault(_path(layer), {})[part] = torch.from_numpy(value)
    return found


def _path(name: str) -> str:
    """The published name of a layer as the path in the zoo's SqueezeNet: a max-pool stands before fires 2, 5 and 9."""
    if name in ("conv1", "conv_final"):
        return {"conv1": "0", "conv_final": "14"}[name]
    fire, _, part = name.partition("__")
    number = int(fire.removeprefix("fire"))
    return f"{number + 1 + (number > 4) + (number > 8)}.{PARTS[part]}"


def network(weights: dict):
    """SqueezeNet 1.0 with these weights, in eval mode."""
    from spaces import zoo

    made = zoo.network("squeezenet1_0", SIZE, CLASSES)
    made.load_state_dict({f"{path}.{part}": value for path, parts in weights.items() for part, value in parts.items()})
    return made


def shared(network):
    """The network, each layer of which keeps its non-zero weights and shares their few values."""
    from torch import nn

    from spaces.compression.codebook import Codebook
    from spaces.compression.magnitude import Magnitude

    for layer in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
        Codebook(CODEBOOK_BITS).prepare(Magnitude(float((layer.weight != 0).double().mean())).prepare(layer))
    return network


def unpacked(frozen) -> dict:
    """The weights that each convolution of a frozen network reads, by the layer's path."""
    import torch

    from spaces.unpacked import reads

    return {read.path: read.weight for read in reads(frozen, torch.zeros(1, 3, SIZE, SIZE))}


def _compiled(frozen, dense, target, folder: Path) -> dict:
    """The compiled network beside the dense one in torch: the largest difference over the largest output, the time."""
    import torch

    from backends.compile import compile_program
    from backends.library import Library
    from backends.measure import measure
    from backends.tune import TOLERANCE, difference
    from spaces.weights import read

    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    report = compile_program(torch.export.export(frozen, (image,)), target, folder / "model.so")
    library = Library(folder / "model.so", report.parameters, read(folder))
    with torch.no_grad():
        error = difference(library.run(image.numpy()), dense(image).numpy())
    if error > TOLERANCE:
        raise BenchError(f"the compiled network differs from torch by {error:.2g} of the largest output")
    return {"error": error, "fallback": report.fallback, "latency_ms": measure(library, image.numpy(), target.measure).latency_ms}


def _layer(path: str, weight, files: dict) -> dict:
    """Bytes of one layer's stored tensors by what they are."""
    parts = {name.removeprefix(f"{path}."): size for file in files.values() for name, size in file.items()
             if name.startswith(f"{path}.")}
    return {"layer": path, "weights": weight.numel(), "kept": int((weight != 0).sum()), "parts": parts, "bytes": sum(parts.values())}


def show(result: dict) -> None:
    """A table of layers, and the sums."""
    table = Table(title="bytes of SqueezeNet 1.0 after Deep Compression, by layer")
    columns = {"bitmap": "weight_bitmap", "codes": "weight_values_codes", "table": "weight_values_table", "bias": "bias"}
    for column in ("layer", "weights", "kept", *columns, "bytes", "bits a weight"):
        table.add_column(column)
    for layer in result["layers"]:
        table.add_row(layer["layer"], f"{layer['weights']:,}", f"{layer['kept']:,}",
                      *(f"{layer['parts'].get(part, 0):,}" for part in columns.values()), f"{layer['bytes']:,}",
                      f"{8 * layer['bytes'] / layer['weights']:.2f}")
    out = console()
    out.print(table)
    dense = 4 * sum(layer["weights"] for layer in result["layers"])
    out.print(f"stored: {result['stored_bytes']:,} bytes ({result['file_bytes']:,} with the files' headers), the authors' file:"
              f" {result['published_bytes']:,}, dense float32 weights: {dense:,}. Every weight came back exactly; compiled for"
              f" {result['target']} it runs in {result['latency_ms']:.2f} ms, {result['error']:.1e} from torch.")
