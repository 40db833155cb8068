"""LeNet-300-100 and LeNet-5 on MNIST through Deep Compression (Han et al., 2016 [12]): pruned in rounds, weights shared, Huffman coded; and
under dynamic network surgery (Guo et al., 2016 [15]).

Each network is trained by itself; one copy then goes through the chain, another trains on, uncompressed, for as many epochs. What is
judged is the deployed network with its tensors as they were written and read back, on the 10,000 test images; bytes are those of the
stored tensors, biases, bitmaps, codebooks and code tables included. The shares that stay are the paper's (tables 2 and 3). Surgery begins
with fewer weights than its paper ends with (table 2), from the same trained network, and splices some back; a copy is pruned in
rounds to the shares that surgery left, for as many epochs.

MNIST from mnist.zip in `$NETWRIGHT_DATA` (default: ../shared/data). What is done is kept in runs/bench_lenet.
"""

import copy
import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.table import Table

from search.bench import console
from search.bench.rungs import Kept

FOLDER, ARCHIVE, SEEDS, ROUNDS = Path("runs/bench_lenet"), "mnist.zip", (0, 1, 2), 4
KEEP = {"LeNet-300-100": {"1": 0.08, "3": 0.09, "5": 0.26}, "LeNet-5": {"0": 0.66, "2": 0.12, "5": 0.08, "7": 0.19}}
SURGERY = {"LeNet-300-100": {"1": 0.008, "3": 0.012, "5": 0.06}, "LeNet-5": {"0": 0.25, "2": 0.03, "5": 0.006, "7": 0.06}}
BITS = {"conv": 8, "dense": 5}
DENSE_EPOCHS, PRUNE_EPOCHS, SHARE_EPOCHS, BATCH, RATE = 20, 30, 5, 128, 0.1


def run(target) -> dict:
    """By network and seed: test accuracy of the network trained on uncompressed and of the compressed ones, bytes, weights that stay."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept, dataset = Kept(FOLDER / "results.jsonl"), _data()
    def rows(name: str) -> list[dict]:
        return [kept.get(name, f"seed {seed}", partial(_compressed, name, seed, dataset)) for seed in SEEDS]
    return {"networks": {name: rows(name) for name in KEEP}}


def _data():
    from evaluators.training.data import open_data
    from search.study_file import DataTable

    archive = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / ARCHIVE
    return open_data(DataTable(source="folder", path=str(archive), validation=1 / 12), 0)


def network(name: str):
    """The network with random weights: 266,610 parameters, or 431,080 (Caffe's LeNet-5)."""
    from torch import nn

    if name == "LeNet-300-100":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def _compressed(name: str, seed: int, dataset) -> dict:
    import torch

    from evaluators.training.loop import evaluate
    from spaces.freeze import freeze
    from spaces.unpacked import reads

    torch.manual_seed(seed)
    dense = network(name)
    _trained(dense, dataset, DENSE_EPOCHS, RATE, seed)
    pruned, longer = _chain(copy.deepcopy(dense), name, dataset, seed), copy.deepcopy(dense)
    _trained(longer, dataset, PRUNE_EPOCHS, RATE / 2, seed + 1)
    _trained(longer, dataset, SHARE_EPOCHS, RATE / 10, seed + 2)
    frozen = freeze(pruned)
    stored_bytes = _stored(frozen, list(KEEP[name]))
    kept = sum(int((read.weight != 0).sum()) for read in reads(frozen, dataset.normalised(dataset.test.images[:1])))
    return {"accuracy": evaluate(longer, dataset.test, dataset), "compressed_accuracy": evaluate(frozen, dataset.test, dataset),
            "bytes": sum(p.numel() * 4 for p in dense.parameters()), "stored_bytes": stored_bytes, "kept_weights": kept,
            "weights": sum(dense.get_parameter(f"{path}.weight").numel() for path in KEEP[name]), **_operated(dense, name, dataset, seed)}


def _operated(dense, name: str, dataset, seed: int) -> dict:
    """The network under surgery, and one pruned to as many weights a layer."""
    from evaluators.training.loop import evaluate
    from spaces.freeze import freeze

    found = {}
    shares = SURGERY[name]
    for method, token in (("surgery", "surgery-keep{}-gamma0.0001-stop0.7"), ("magnitude", f"magnitude-keep{{}}-rounds{ROUNDS}")):
        chains = {path: token.format(f"{share:.6f}") for path, share in shares.items()}
        network = _under(copy.deepcopy(dense), chains, dataset, seed)
        _trained(network, dataset, PRUNE_EPOCHS, RATE / 2, seed + 1)
        kept = {path: int((network.get_submodule(path).weight != 0).sum()) for path in shares}
        shares = {path: count / dense.get_submodule(path).weight.numel() for path, count in kept.items()}
        found |= {f"{method}_accuracy": evaluate(freeze(network), dataset.test, dataset), f"{method}_weights": sum(kept.values())}
    return found


def _chain(dense, name: str, dataset, seed: int):
    """The network pruned and trained, then its weights shared and trained."""
    from torch.nn.utils.parametrize import remove_parametrizations

    pruned = _under(dense, {path: f"magnitude-keep{keep}-rounds{ROUNDS}" for path, keep in KEEP[name].items()}, dataset, seed)
    _trained(pruned, dataset, PRUNE_EPOCHS, RATE / 2, seed + 1)
    for path in KEEP[name]:
        remove_parametrizations(pruned.get_submodule(path), "weight")  # pruned weights stay zero; what is kept is the same below
    shared = {path: f"magnitude-keep{keep}+codebook-bits{_bits(pruned.get_submodule(path))}" for path, keep in KEEP[name].items()}
    pruned = _under(pruned, shared, dataset, seed)
    _trained(pruned, dataset, SHARE_EPOCHS, RATE / 10, seed + 2)
    return pruned


def _under(module, chains: dict[str, str], dataset, seed: int):
    """The network with compressions in place."""
    from evaluators.pipeline import calibration
    from spaces.candidate import parse_chain
    from spaces.compress import prepare

    return prepare(module, {path: parse_chain(text) for path, text in chains.items()}, calibration(dataset, seed), lambda graph: None)


def _bits(layer) -> int:
    return BITS["dense" if layer.weight.dim() == 2 else "conv"]


def _trained(module, dataset, epochs: int, rate: float, seed: int) -> None:
    from evaluators.training.loop import train
    from evaluators.training.schedule import Schedule

    train(module, dataset, Schedule(epochs, BATCH, rate, 5e-4), seed)


def _stored(frozen, paths: list[str]) -> int:
    """Bytes of the network's tensors as they are written, which it then has as they are read back."""
    import torch

    from spaces.huffman import write
    from spaces.weights import read, sizes

    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        write({name: tensor.numpy() for name, tensor in frozen.state_dict().items()}, paths, Path(folder))
        frozen.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in read(Path(folder)).items()})
        return sum(count for tensors in sizes(Path(folder)).values() for count in tensors.values())


def show(result: dict) -> None:
    """A line a network: means over the seeds."""
    table = Table(title=f"MNIST, means of {len(SEEDS)} seeds; uncompressed networks are trained for as many epochs")
    for column in ("network", "error", "error, compressed", "points lost", "bytes", "stored bytes", "times smaller", "weights that stay"):
        table.add_column(column)
    for name, rows in result["networks"].items():
        error, after = (100 * (1 - fmean(row[key] for row in rows)) for key in ("accuracy", "compressed_accuracy"))
        stored = fmean(row["stored_bytes"] for row in rows)
        table.add_row(name, f"{error:.2f}%", f"{after:.2f}%", f"{after - error:+.2f}", f"{rows[0]['bytes']:,}", f"{stored:,.0f}",
                      f"{rows[0]['bytes'] / stored:.1f}", f"{fmean(row['kept_weights'] / row['weights'] for row in rows):.1%}")
    console().print(table)
    table = Table(title="Dynamic network surgery, and pruning in rounds to the same weights a layer")
    for column in ("network", "error", "error, surgery", "points lost", "weights that stay", "times fewer", "error, pruned"):
        table.add_column(column)
    for name, rows in result["networks"].items():
        error, cut, pruned = (100 * (1 - fmean(row[key] for row in rows)) for key in ("accuracy", "surgery_accuracy", "magnitude_accuracy"))
        weights = fmean(row["surgery_weights"] for row in rows)
        table.add_row(name, f"{error:.2f}%", f"{cut:.2f}%", f"{cut - error:+.2f}", f"{weights:,.0f}", f"{rows[0]['weights'] / weights:.1f}",
                      f"{pruned:.2f}%")
    console().print(table)
