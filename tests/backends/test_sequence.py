"""Kernels called in a row by one function compute what torch does, however the network hangs together."""

import numpy as np
import pytest
import torch
from torch import nn

import backends.compile
import spaces.ops
from backends.compile import compile_program
from backends.library import Library
from backends.target import load

spaces.ops.register_all()


class Repeated(nn.Module):
    """Three layers of one shape: one kernel, called three times."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x.flatten(1)


class ImageAtTheEnd(nn.Module):
    """The image is read by the first kernel and by the last."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return torch.relu(self.layer(x)) + x


class Reshaped(nn.Module):
    """A reshape first, one within, and one last."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6 * 25, 12), nn.Linear(12, 9)

    def forward(self, x):
        return self.second(torch.relu(self.first(x.flatten(1))).reshape(1, 12)).reshape(1, 3, 3)


class Gated(nn.Module):
    """Squeeze and excite before a 1x1 convolution, the factors in either order."""

    def __init__(self, channels: int, outputs: int, image_first: bool = True):
        super().__init__()
        self.image_first = image_first
        self.gate, self.project = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, outputs, 1)

    def forward(self, x):
        gate = torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.project(x * gate if self.image_first else gate * x).flatten(1)


class Scaled(nn.Module):
    """Products that gate nothing: by a number, and of two images, before 1x1 convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.first(x * 0.5)
        return self.second(x * torch.sigmoid(x)).flatten(1)


class ResultThatNoKernelComputes(nn.Module):
    """The image as it is, reshaped, beside a layer that is for nothing."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(6, 3, 1)

    def forward(self, x):
        self.layer(x)
        return x.flatten(1)


def compiled(network: nn.Module, image: torch.Tensor, folder, threads: int = 1):
    """The library of a network, the compiler's report, and what torch computes."""
    from dataclasses import replace

    program = torch.export.export(network.eval(), (image,))
    report = compile_program(program, replace(load("local"), threads=threads), folder / "model.so")
    weights = {name: tensor.detach().numpy() for name, tensor in program.state_dict.items()}
    with torch.no_grad():
        return Library(folder / "model.so", report.parameters, weights), report, network(image).numpy()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("network, shape", [
    (Repeated, (1, 6, 5, 5)), (Repeated, (1, 6, 1, 1)), (Repeated, (2, 6, 40, 40)), (ImageAtTheEnd, (1, 6, 9, 9)),
    (Reshaped, (1, 6, 5, 5)), (Scaled, (1, 6, 5, 5)), (ResultThatNoKernelComputes, (1, 6, 5, 5))])
def test_a_network_computes_what_torch_does(network, shape, threads, tmp_path, monkeypatch):
    """On two threads a crew is gathered, however small the network."""
    monkeypatch.setattr(backends.compile, "WORTH_A_CREW_US", 0)
    torch.manual_seed(0)
    image = torch.randn(shape)
    library, report, expected = compiled(network(), image, tmp_path, threads)
    assert report.fallback == 0
    for _ in range(3):
        np.testing.assert_allclose(library.run(image.numpy()), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(library.runner(image.numpy())(), library.run(image.numpy()))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels, outputs, side, image_first", [(37, 5, 28, True), (64, 24, 14, False), (5, 60, 3, False), (1, 1, 2, True)])
def test_gates_before_a_convolution_multiply_image_or_weights_whichever_is_faster(channels, outputs, side, image_first, threads, tmp_path):
    torch.manual_seed(0)
    image = torch.randn(1, channels, side, side)
    library, report, expected = compiled(Gated(channels, outputs, image_first), image, tmp_path, threads)
    ops = [op.op for op in report.ops]
    assert ("conv2d_gated" in ops) != ("mul" in ops) and ("conv2d_gated" in ops) == bool(report.joined)
    np.testing.assert_allclose(library.run(image.numpy()), expected, rtol=1e-4, atol=1e-5)


def test_an_image_of_another_size_is_refused(tmp_path):
    library, _, _ = compiled(Repeated(), torch.randn(1, 6, 5, 5), tmp_path)
    with pytest.raises(Exception, match="shape"):
        library.run(np.zeros((1, 6, 7, 5), np.float32))
