"""Structured removal: what is left computes what the network computes with those channels at zero."""

import pytest
import torch
from torch import nn

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import remove_channels
from spaces.gene import SpaceError, parse
from spaces.site import Calibration, Site
from spaces.trace import trace

SHAPE = (3, 12, 12)
NETWORKS = {
    "plain": ("conv:16/1 conv:12/2 classifier:5/1", ["layers.0.conv", "layers.1.conv"]),
    "fire": ("conv:8/1 fire-norm_batch:16/1 fire-norm_batch:16/2 classifier:5/1",
             ["layers.1.squeeze", "layers.1.expand1x1", "layers.1.expand3x3", "layers.2.expand3x3"]),
    "expansion": ("conv:8/1 mbconv-expand3-se0.25:8/1 mbconv-expand3:8/1 classifier:5/1",
                  ["layers.1.expand", "layers.1.reduce", "layers.2.expand"]),
    "residual": ("conv:8/2 mbconv-expand3:8/1 mbconv-expand3:8/1 conv:6/1 classifier:5/1", ["layers.0.conv"]),
    "separable": ("conv:8/1 depthwise_separable:12/2 depthwise_separable:12/1 classifier:5/1",
                  ["layers.0.conv", "layers.1.pointwise"]),
}


def site(network: nn.Module, path: str) -> Site:
    """A layer of a network, and random images."""
    return Site(network.get_submodule(path), path, trace(network), Calibration.unlabelled(torch.randn(8, *SHAPE)))


def trained(text: str, warm) -> nn.Module:
    """A network with statistics of its own."""
    torch.manual_seed(0)
    network = build(Candidate.parse(text), SHAPE)
    warm(SHAPE)(network)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_removal_equals_masking(name, warm):
    """Channels are silenced at the inputs of every layer that reads them: kernels, not outputs, are zeroed."""
    text, paths = NETWORKS[name]
    network, masked = trained(text, warm), trained(text, warm)
    method = parse("compression", "l1_filters-keep0.5")
    sites = [(path, method) for path in paths]
    widths = {p: network.get_submodule(p).out_channels for p in paths}
    _mask_by_probe(masked, [(p, method.removed(site(masked, p))) for p in paths])
    remove_channels(network, sites, Calibration.unlabelled(torch.randn(1, *SHAPE)))
    x = torch.randn(4, *SHAPE)
    assert all(network.get_submodule(p).out_channels == widths[p] // 2 for p in paths)
    torch.testing.assert_close(network(x), masked(x), rtol=1e-4, atol=1e-5)


def _mask_by_probe(network: nn.Module, removed: list[tuple[str, list[int]]]) -> None:
    """Silences each removed channel and, through residuals and depthwise layers, every one coupled to it:
    all norms and convolutions downstream of it that carry channels one to one."""
    modules = dict(network.named_modules())
    for path, channels in removed:
        for name in _coupled(path, modules):
            _silence(modules[name], channels)


def _coupled(path: str, modules: dict[str, nn.Module]) -> list[str]:
    """Written down by hand for the networks above: the norms whose channels go with a layer's outputs."""
    index, role = path.split(".")[1:]
    chains = {
        "conv": [f"layers.{index}.norm"], "squeeze": [f"layers.{index}.squeeze_norm"],
        "expand1x1": [f"layers.{index}.expand1x1_norm"], "expand3x3": [f"layers.{index}.expand3x3_norm"],
        "expand": [f"layers.{index}.expand_norm", f"layers.{index}.depthwise_norm"],
        "reduce": [path], "pointwise": [f"layers.{index}.pointwise_norm"]}[role]
    following = f"layers.{int(index) + 1}"
    if role in ("conv", "pointwise") and f"{following}.pointwise" in modules:
        chains = [*chains, f"{following}.depthwise_norm"]
    if role == "conv" and f"{following}.project_norm" in modules:
        chains = [*chains, *(f"layers.{i}.project_norm" for i in (1, 2))]
    return chains


def _silence(layer: nn.Module, channels: list[int]) -> None:
    with torch.no_grad():
        layer.weight[channels] = 0
        layer.bias[channels] = 0


def test_l1_removes_the_filters_of_smallest_norm():
    network = nn.Sequential(nn.Conv2d(3, 6, 3))
    layer = network[0]
    layer.weight.data *= torch.tensor([5.0, 1, 4, 2, 6, 3]).reshape(-1, 1, 1, 1) / layer.weight.abs().sum((1, 2, 3), True)
    assert parse("compression", "l1_filters-keep0.5").removed(site(network, "0")) == [1, 3, 5]


def test_coupled_outputs_are_removed_once_and_the_first_decides(warm):
    network = trained("conv:8/2 mbconv-expand3:8/1 classifier:5/1", warm)
    method = parse("compression", "l1_filters-keep0.5")
    remove_channels(network, [("layers.0.conv", method), ("layers.1.project", method)], Calibration.unlabelled(torch.randn(1, *SHAPE)))
    assert network.get_submodule("layers.1.project").out_channels == 4


def test_coupled_outputs_that_want_different_shares_are_refused(warm):
    network = trained("conv:8/2 mbconv-expand3:8/1 classifier:5/1", warm)
    half, most = parse("compression", "l1_filters-keep0.5"), parse("compression", "l1_filters-keep0.75")
    with pytest.raises(SpaceError, match=r"layers.1.project: l1_filters-keep0.75 contradicts l1_filters of layers.0.conv"):
        remove_channels(network, [("layers.0.conv", half), ("layers.1.project", most)], Calibration.unlabelled(torch.randn(1, *SHAPE)))


VGG = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


def vgg16() -> nn.Sequential:
    """VGG-16 for CIFAR-10 as [18] prunes it: 13 convolutions with batch norm, dense 512 and 10."""
    layers, inputs = [], 3
    for width in VGG:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def macs(network: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions and dense layers, by hooks."""
    total = []
    hooks = [m.register_forward_hook(lambda m, i, o: total.append(o[0].numel() * m.weight[0].numel()))
             for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    network.eval()(x)
    [hook.remove() for hook in hooks]
    return sum(total)


def test_vgg16_has_the_published_operations_after_pruning():
    """[18]: conv1 and conv8 to conv13 halved take 313,463,808 operations to 206,279,680 (-34.2%)."""
    network, x = vgg16(), torch.randn(1, 3, 32, 32)
    assert macs(network, x) == 313_463_808
    convolutions = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    half = parse("compression", "l1_filters-keep0.5")
    sites = [(convolutions[i], half) for i in (0, 7, 8, 9, 10, 11, 12)]
    remove_channels(network, sites, Calibration.unlabelled(x))
    assert macs(network, x) == 206_279_680
