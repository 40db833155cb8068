"""The training engine beside a plain loop of PyTorch over normalised images that lie in memory, in turns: images a second, and the
share of the engine's time that goes into choosing, augmenting and normalising images; and what `torch.compile` would do to a step.

CIFAR-10 from cifar10.zip in `$NETWRIGHT_DATA` (default: ../shared/data), batches of 128, augmented by crop and flip.
"""

import os
import time
from pathlib import Path
from statistics import median

from rich.table import Table

from search.bench import console

ARCHIVE, BATCH, BATCHES, ROUNDS = Path("cifar10.zip"), 128, 8, 5
NETWORKS = {
    "small": "conv:16/2 depthwise_separable:32/1 depthwise_separable:64/2 depthwise_separable:96/2 classifier:10/1",
    "middle": "conv:24/2 mbconv-expand2:32/1 mbconv-expand4:48/2 fire-squeeze0.5-norm_batch:96/2 classifier:10/1",
    "large": "conv:32/1 mbconv-expand4:32/1 mbconv-expand4:64/2 mbconv-expand4:128/2 classifier:10/1"}


def run(target) -> dict:
    """Per network images a second of both, medians over rounds in turns, their ratio, and the loader's share."""
    import torch

    from evaluators.training.data import open_data
    from search.study_file import DataTable

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    archive = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / ARCHIVE
    data = open_data(DataTable(source="folder", path=str(archive), augment=["crop", "flip"]), 0).part(BATCH * BATCHES, 0)
    return {"threads": torch.get_num_threads(), "networks": {name: _beside(text, data) for name, text in NETWORKS.items()}}


def _beside(text: str, data) -> dict:
    from spaces.build import build
    from spaces.candidate import Candidate

    network = build(Candidate.parse(text), data.shape)
    ready = data.normalised(data.train.images[:])
    runs = {"engine": lambda: _engine(network, data), "plain": lambda: _plain(network, ready, data.train.labels),
            "loader": lambda: _loader(data)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, function in runs.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    engine, plain, loader = (median(taken[1:]) for taken in seconds.values())
    images = BATCH * BATCHES
    return {"engine_images_per_s": images / engine, "plain_images_per_s": images / plain, "ratio": plain / engine,
            "loader_share": loader / engine, "seconds": seconds, **_compiled(network, ready, data.train.labels)}


def _engine(network, data) -> None:
    from evaluators.training.loop import train
    from evaluators.training.schedule import Schedule

    train(network, data, Schedule(1, BATCH, 0.01, 5e-4), 0)


def _plain(network, images, labels) -> None:
    """What a person would write, on tensors made ready before."""
    import torch

    optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    network.train()
    for x, y in zip(images.split(BATCH), labels.split(BATCH)):
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _compiled(network, images, labels) -> dict:
    """Forward and backward of a batch, as they are and compiled, in turns; seconds that the first compiled step takes."""
    import torch

    ways, seconds = {"eager": network, "compiled": torch.compile(network)}, {"eager": [], "compiled": []}
    batch = images[:BATCH].contiguous(memory_format=torch.channels_last)
    for _ in range(BATCHES + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            torch.nn.functional.cross_entropy(way(batch), labels[:BATCH]).backward()
            seconds[name].append(time.perf_counter() - begin)
    eager, compiled = (median(taken[1:]) for taken in seconds.values())
    return {"compiled_ratio": eager / compiled, "compile_seconds": seconds["compiled"][0]}


def _loader(data) -> None:
    import torch

    from evaluators.training.data import batches

    for _ in batches(data, BATCH, torch.Generator().manual_seed(0)):
        pass


def show(result: dict) -> None:
    """A table of speeds."""
    out, table = console(), Table(title=f"training, {result['threads']} threads, batches of {BATCH}, CIFAR-10")
    for column in ("network", "engine, images/s", "plain loop, images/s", "ratio", "loader's share",
                   "torch.compile, times as fast", "and takes"):
        table.add_column(column)
    for name, net in result["networks"].items():
        table.add_row(f"{name}: {NETWORKS[name]}", f"{net['engine_images_per_s']:.0f}", f"{net['plain_images_per_s']:.0f}",
                      f"{net['ratio']:.3f}", f"{net['loader_share']:.1%}", f"{net['compiled_ratio']:.2f}",
                      f"{net['compile_seconds']:.0f} s")
    out.print(table)
