"""The trained network of `bench int8`: ResNet-20 as published, quantised, beside ONNX Runtime on photographs."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.model import from_module, load_model
from evaluators.quantised import write_quantised
from search.bench import int8

DATA = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data"))


@pytest.mark.parametrize("inputs", [16, 32])
def test_a_picking_convolution_drops_pixels_and_pads_with_channels_of_zeros(inputs):
    x = torch.randn(2, inputs, 9, 9)
    padding = [0, 0, 0, 0, inputs // 2, inputs // 2]  # the published network's own words: planes // 4 on each side
    expected = nn.functional.pad(x[:, :, ::2, ::2], padding)
    picked = int8._picking(nn.Conv2d(inputs, 2 * inputs, 1, 2, bias=False))(x)
    np.testing.assert_array_equal(picked.detach().numpy(), expected.numpy())


def test_the_published_network_is_as_accurate_in_our_integers_as_in_onnx_runtimes(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    if not (DATA / int8.WEIGHTS).is_file() or not (DATA / int8.ARCHIVE).is_file():
        pytest.skip(f"{DATA} lacks {int8.WEIGHTS} or {int8.ARCHIVE}; set NETWRIGHT_DATA to the folder that holds them")
    images = int8.photographs(DATA / int8.ARCHIVE)
    network = int8.published(DATA / int8.WEIGHTS)
    path = write_quantised(from_module(network, (1, 3, 32, 32)), tmp_path, images.calibration)
    integers, session = load_model(str(path), ()).network, ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    runs = integers, network, lambda image: session.run(None, {name: image.numpy()})[0]
    chosen, labels = torch.from_numpy(images.compared[::4]), images.labels[::4]
    with torch.no_grad():
        ours, exact, theirs = (np.array([int(run(image[None]).argmax()) for image in chosen]) for run in runs)
    assert (ours == theirs).mean() >= 0.99
    assert (exact == labels).mean() >= 0.75 and (ours == labels).mean() >= (exact == labels).mean() - 0.02


def test_without_the_data_one_line_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NETWRIGHT_DATA", str(tmp_path))
    monkeypatch.setattr(int8, "beside_peers", lambda *arguments: {"to_better_peer": 0.5})
    assert int8.TRAINED not in int8.run(type("T", (), {"name": "local", "threads": 1}))["networks"]
    assert "set NETWRIGHT_DATA to a folder with cifar10.zip" in capsys.readouterr().err
