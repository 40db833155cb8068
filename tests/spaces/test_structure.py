"""Structured removal: what is left computes what the network computes with those channels at zero."""

import copy
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import remove_channels
from spaces.gene import SpaceError, load, names, parse
from spaces.method import STRUCTURE
from spaces.site import Calibration, Site
from spaces.trace import trace
from tests.by_name import BLOCKS as NAMED
from tests.spaces.masking import Masked

SHAPE = (3, 12, 12)
METHODS = [name for name in names("compression") if load("compression", name).PHASE == STRUCTURE]
VARIANTS = {
    "conv": ["conv", "conv-kernel1-norm_none"],
    "depthwise_separable": ["depthwise_separable-kernel5-act_relu6"],
    "fire": ["fire-squeeze0.5", "fire-squeeze0.5-norm_batch", "fire-squeeze0.5-bypass_simple", "fire-squeeze0.5-bypass_complex"],
    "mbconv": ["mbconv-expand3", "mbconv-expand1", "mbconv-expand3-se0.5"],
}
BLOCKS = [token for name in NAMED for token in VARIANTS.get(name, [name])]


def networks(block: str) -> list[str]:
    """Candidates in which a block is read by itself (so that residuals are added to each other), with a stride, and by the head."""
    if parse("blocks", block).HEAD:
        return [f"conv:8/1 {block}:5/1", f"conv:8/1 mbconv-expand2:8/1 fire-squeeze0.5:8/1 {block}:5/1"]
    return [f"conv:8/1 {block}:8/1 {block}:8/2 {block}:8/1 conv:8/1 classifier:5/1", f"conv:8/2 {block}:8/1 classifier:5/1"]


def removable(text: str) -> list[str]:
    """The paths of the layers whose outputs may be removed."""
    layers = enumerate(Candidate.parse(text).layers)
    return [f"layers.{i}.{name}" for i, layer in layers for name, role in layer.block.roles().items() if role.removable]


def site(network: nn.Module, path: str) -> Site:
    """A layer of a network, and random images."""
    return Site(network.get_submodule(path), path, trace(network), Calibration.unlabelled(torch.randn(8, *SHAPE)))


def trained(text: str, warm, change=lambda network: None) -> nn.Module:
    """A network with statistics of its own, which `change` has changed before."""
    torch.manual_seed(0)
    network = build(Candidate.parse(text), SHAPE)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.momentum = 1.0
    change(network)
    warm(SHAPE, 1)(network)
    return network.eval()


@dataclass(frozen=True)
class Chosen:
    """Removes these channels."""

    channels: list[int]

    def removed(self, site: Site) -> list[int]:
        return self.channels


@torch.no_grad()
def half_faint(network: nn.Module) -> None:
    """Every second channel of every layer becomes next to nothing, which is what thresholds find."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight[:, 1::2] *= 1e-4
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.weight[1::2] *= 1e-4
            if module.bias is not None:
                module.bias[1::2] *= 1e-4


def check_masking(whole: nn.Module, at: Site, method) -> None:
    """Removal from a copy of the whole network computes what masking does, unless it leaves a part of a concatenation nothing."""
    network, channels, x = copy.deepcopy(whole), method.removed(at), torch.randn(4, *SHAPE)
    try:
        remove_channels(network, [(at.path, method)], at.calibration)
    except SpaceError as refused:
        assert "would lose all of them" in str(refused) and any(name.endswith("expand3x3") for name, _ in whole.named_modules())
        return
    assert network.get_submodule(at.path).out_channels == at.layer.out_channels - len(channels)
    torch.testing.assert_close(network.eval()(x), Masked(trace(whole), at.path, channels, x).run(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("block", BLOCKS)
def test_removal_equals_masking(block, name, warm):
    """Of each layer of each block, through residuals, gates, concatenations and depthwise convolutions, to 1e-5."""
    method = parse("compression", name)
    for text in networks(block):
        whole = trained(text, warm, half_faint)
        for path in removable(text):
            at = site(whole, path)
            assert 0 < len(method.removed(at)) < at.layer.out_channels
            check_masking(whole, at, method)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_removal_of_any_channels_equals_masking(warm, data):
    text = data.draw(st.sampled_from([text for block in BLOCKS for text in networks(block)]))
    network = trained(text, warm)
    at = site(network, data.draw(st.sampled_from(removable(text))))
    channels = st.lists(st.integers(0, at.layer.out_channels - 1), unique=True, max_size=at.layer.out_channels - 1)
    check_masking(network, at, Chosen(data.draw(channels)))


def test_a_removal_that_would_leave_a_part_of_a_concatenation_nothing_is_refused(warm):
    network = trained("conv:8/1 fire-bypass_simple:8/1 classifier:5/1", warm)
    with pytest.raises(SpaceError, match="layers.0.conv: a layer whose outputs are added to its own would lose all of them"):
        remove_channels(network, [("layers.0.conv", Chosen([0, 1, 2, 3]))], Calibration.unlabelled(torch.randn(1, *SHAPE)))


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


def weights(network: nn.Module) -> int:
    """Weights of convolutions and dense layers."""
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize("name", ["l1_filters", "taylor_filters", "entropy_filters"])
def test_vgg16_has_the_published_operations_after_pruning(name):
    """[18]: conv1 and conv8 to conv13 halved take 313,463,808 operations to 206,279,680 (-34.2%), 14,977,728 weights to 5,390,176 (-64.0%),
    whatever ranks the filters."""
    network, x = vgg16(), torch.randn(4, 3, 32, 32)
    assert (macs(network, x), weights(network)) == (313_463_808, 14_977_728)
    convolutions = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    half = parse("compression", name)
    sites = [(convolutions[i], half) for i in (0, 7, 8, 9, 10, 11, 12)]
    remove_channels(network, sites, Calibration.unlabelled(x))
    assert (macs(network, x), weights(network)) == (206_279_680, 5_390_176)


class Residual(nn.Module):
    """Two convolutions and the parameter-free shortcut of He et al. (2016), which pads new channels with zeros."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.grows, stride = width != inputs, 2 if width != inputs else 1
        self.first, self.first_norm = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.second, self.second_norm = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.rectify = nn.ReLU()

    def forward(self, x):
        y = self.second_norm(self.second(self.rectify(self.first_norm(self.first(x)))))
        x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1])) if self.grows else x
        return self.rectify(x + y)


def resnet(blocks: int) -> nn.Sequential:
    """ResNet for CIFAR-10 of 6 blocks + 2 layers."""
    widths = [16, *(width for width in (16, 32, 64) for _ in range(blocks))]
    stages = [Residual(*pair) for pair in zip(widths, widths[1:])]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("blocks, kept, skipped, before, after", [
    (9, (6, 22, 57), (16, 18, 20, 34, 38, 54), 125_485_696, 90_907_264), (18, (8, 19, 44), (36, 38, 74), 252_887_680, 155_124_352)])
def test_resnets_have_the_published_operations_after_pruning(blocks, kept, skipped, before, after):
    """[18]: ResNet-56-B, whose first layers of blocks lose 60, 30 and 10% by stage but for some, has 27.6% fewer; ResNet-110-B 38.7%."""
    network, x = resnet(blocks), torch.randn(1, 3, 32, 32)
    assert macs(network, x) == before
    firsts = {2 + 2 * i: (f"{3 + i}.first", kept[i // blocks], 16 << i // blocks) for i in range(3 * blocks)}
    sites = [(path, parse("compression", f"l1_filters-keep{stay / width:.6f}"))
             for number, (path, stay, width) in firsts.items() if number not in skipped]
    remove_channels(network, sites, Calibration.unlabelled(x))
    assert macs(network, x) == after
