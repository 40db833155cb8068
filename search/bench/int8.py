"""The networks of `bench nets` quantised to 8 bits, beside ONNX Runtime and OpenVINO on the same quantised file, in turns.

Weights are random there, and so are images. Where `$NETWRIGHT_DATA` (default: ../shared/data) holds cifar10.zip and
models/resnet_cifar, a trained network comes last: ResNet-20 as published (Idelbayev, 2018), on CIFAR-10's test images.
"""

import os
import sys
from math import exp, log
from pathlib import Path
from statistics import fmean

from evaluators.quantised import Images, measure_on, measure_quantised
from search.bench import console
from search.bench.nets import LARGE, PEERS, SMALL, beside_peers, candidates, times

TRAINED, WEIGHTS = "resnet20@32, trained", Path("models/resnet_cifar/resnet20-12fca82f.npz")
ARCHIVE, SOURCE = Path("cifar10.zip"), "https://github.com/akamaster/pytorch_resnet_cifar10"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the published network was trained on
EVERY_TRAINING_IMAGE, EVERY_TEST_IMAGE = 500, 10


def run(target) -> dict:
    """Per network what `netwright measure` gives of its quantised file, the ratio to the better peer, and the agreement with
    ONNX Runtime; the ratios' geometric mean."""
    results = {name: beside_peers(name, target, measure_quantised, (1, 3, 32, 32), target, PEERS)
               for name in (*LARGE, *SMALL, *candidates())}
    mean = exp(fmean(log(net["to_better_peer"]) for net in results.values()))
    data = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data"))
    if (data / WEIGHTS).is_file() and (data / ARCHIVE).is_file():
        results[TRAINED] = beside_peers(TRAINED, target, measure_trained, data, target, PEERS)
    else:
        print(f"no trained network: set NETWRIGHT_DATA to a folder with {ARCHIVE} and {WEIGHTS} (from {SOURCE})", file=sys.stderr)
    return {"target": target.name, "threads": target.threads, "networks": results, "geometric_mean": mean}


def measure_trained(name: str, data: Path, target, peers: list[str]) -> dict:
    """In the worker: the published network on images of CIFAR-10."""
    from evaluators.model import from_module

    return measure_on(photographs(data / ARCHIVE), from_module(published(data / WEIGHTS), (1, 3, 32, 32)), target, peers)


def photographs(archive: Path) -> Images:
    """Training images for the ranges, a tenth of the test images to classify: as many of each class."""
    import numpy as np

    from evaluators.training.sources import folder

    raw = folder.read(str(archive))
    mean, std = (np.array(value, np.float32).reshape(3, 1, 1) for value in (MEAN, STD))
    calibration, compared = ((images[::every].astype(np.float32) / 255 - mean) / std for images, every in (
        (raw.train_images, EVERY_TRAINING_IMAGE), (raw.test_images, EVERY_TEST_IMAGE)))
    return Images(calibration, compared, raw.test_labels[::EVERY_TEST_IMAGE])


def published(file: Path):
    """The zoo's ResNet-20 with the published weights, which come in the zoo's order. Where widths change, the published network
    drops every other pixel and pads with channels of zeros (He et al., 2016, option A), as a 1x1 convolution can."""
    import numpy as np
    import torch

    from spaces import zoo

    network = zoo.network("resnet20", 32, 10)
    for block in network:
        if isinstance(getattr(block, "shortcut", None), torch.nn.Sequential):
            block.shortcut = _picking(block.shortcut[0])
    trained = [name for name in network.state_dict() if "shortcut" not in name and "num_batches" not in name]
    given = dict(zip(trained, map(torch.from_numpy, np.load(file).values()), strict=True))
    network.load_state_dict({**network.state_dict(), **given})
    return network


def _picking(convolution):
    """The 1x1 convolution with weights that put its inputs in the middle of its outputs, the others being zero."""
    import torch

    outputs, inputs = convolution.weight.shape[:2]
    first = (outputs - inputs) // 2
    picks = torch.eye(outputs)[:, first:first + inputs, None, None]
    convolution.weight = torch.nn.Parameter(picks)
    return convolution


def show(result: dict) -> None:
    """A table of times, ratios, agreement and accuracy."""
    out = console()
    out.print(times(result, "8-bit integers", {
        "same class as ONNX Runtime": lambda net: f"{net['agreement']:.1%}",
        "ONNX Runtime with itself": lambda net: f"{net['peer_agreement']:.1%}",
        "accuracy": lambda net: f"{net['accuracy']:.1%}" if "accuracy" in net else "",
        "ONNX Runtime's": lambda net: f"{net['peer_accuracy']:.1%}" if "accuracy" in net else ""}))
    out.print(f"geometric mean {result['geometric_mean']:.3f}, random weights")
