"""A network of the user's is read as steps that compute the same, with the user's weights, and says which of its layers can be compressed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluators.given_network import given_network
from evaluators.model import ModelError
from evaluators.training.raw import DataError
from spaces import zoo
from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare, remove_channels
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.given import copy_from, copy_to, file_of, given, module
from spaces.site import Calibration
from spaces.zoo import settled

SHAPE = (3, 12, 12)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given.cache_clear()


class Residual(nn.Module):
    """As ResNets for small images are often written: functions, a shortcut of picked pixels among zeros, sizes asked for."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)
        self.conv3, self.bn3 = nn.Conv2d(6, 9, 3, 2, 1, bias=False), nn.BatchNorm2d(9)
        self.conv4, self.bn4 = nn.Conv2d(9, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12)
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        y = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        x = F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3)))
        x = F.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


class Trunk(nn.Module):
    """Two blocks that add to one trunk."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = (nn.Conv2d(inputs, 6, 3, 1, 1) for inputs in (3, 6, 6))
        self.inside, self.norm, self.last = nn.Conv2d(6, 9, 1), nn.BatchNorm2d(6), nn.Linear(6, 5)
        self.back = nn.Conv2d(9, 6, 1)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = F.relu(x + self.first(x))
        x = F.relu(x + self.back(F.relu(self.inside(x)))) + self.second(x)
        return self.last(x.mean((2, 3)))


class Mixed(nn.Module):
    """Groups, gates, concatenation, a mean, dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise, self.grouped = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 1, groups=2)
        self.reduce, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, 1, 1)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(12, 5)

    def forward(self, x):
        x = F.hardswish(self.grouped(F.silu(self.depthwise(self.stem(x)))))
        x = x * torch.sigmoid(self.excite(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        x = torch.cat([F.relu(self.left(x)), self.right(F.max_pool2d(x, 3, 1, 1)).clamp(0, 6)], 1)
        return self.last(self.drop(x.mean((2, 3))))


def made(kind: type[nn.Module]) -> nn.Module:
    """With weights, norms and statistics of its own."""
    torch.manual_seed(3)
    network = kind()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return settled(network, torch.randn(64, *SHAPE))


def residual() -> nn.Module:
    return made(Residual)


def mixed() -> nn.Module:
    return made(Mixed)


def trunk() -> nn.Module:
    return made(Trunk)


def untrained() -> nn.Module:
    """`residual` with other weights."""
    torch.manual_seed(4)
    return Residual()


class Written(nn.Module):
    """Padding by name, bounds by name, pixels picked at once, whole channels dropped."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.last = nn.Conv2d(3, 4, 5, padding="same", dilation=2), nn.Dropout2d(0.2), nn.Linear(16, 5)

    def forward(self, x):
        x = torch.clamp(self.conv(x[:, :, ::2, ::3]), min=0)
        return self.last(F.avg_pool2d(self.drop(x), (3, 2)).reshape(len(x), -1))


class Refused(nn.Module):
    """Something that no step says."""

    def __init__(self, what):
        super().__init__()
        self.what, self.last = what, nn.Linear(432, 5)

    def forward(self, x):
        return self.what(x, lambda y: self.last(y.flatten(1)))


def written() -> nn.Module:
    torch.manual_seed(3)
    return Written().eval()


def scaled_sum() -> nn.Module:
    return Refused(lambda x, last: last(torch.add(x, F.relu(x), alpha=2)))


def mirrored() -> nn.Module:
    return Refused(lambda x, last: last(F.pad(x, (1, 1, 1, 1), "reflect")[:, :, 1:13, 1:13]))


def two_results() -> nn.Module:
    return Refused(lambda x, last: (last(x), x))


def norm_of_rows() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(432), nn.Linear(432, 5))


def odd() -> nn.Module:
    class Odd(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).real.flatten(1)[:, :5]
    return Odd()


def twice() -> nn.Module:
    shared = nn.Conv2d(3, 3, 3, 1, 1)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(432, 5))


def read(source: str, weights: str = "") -> str:
    return given_network(SimpleNamespace(source=source if ":" not in source[:2] else f"{__name__}{source}", weights=str(weights)), SHAPE, 5)


@pytest.mark.parametrize("source", [":residual", ":mixed", ":written"])
def test_the_steps_compute_what_the_network_does_for_any_number_of_images(source):
    images = torch.randn(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(module(read(source))(images), globals()[source[1:]]()(images), rtol=1e-4, atol=1e-5)


def test_an_onnx_file_is_the_same_network(tmp_path):
    torch.onnx.export(mixed(), (torch.randn(1, *SHAPE),), tmp_path / "mixed.onnx", dynamo=True, verbose=False)
    network, images = read(str(tmp_path / "mixed.onnx")), torch.randn(5, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(module(network)(images), mixed()(images), rtol=1e-4, atol=1e-4)
    assert [role.kind for role in given(network).roles.values()] == [role.kind for role in given(read(":mixed")).roles.values()]


def test_layers_have_the_kinds_that_methods_ask_for():
    kinds = {path: role.kind for path, role in given(read(":mixed")).roles.items()}
    assert kinds == {"stem.0": CONV, "depthwise": DEPTHWISE, "reduce": POINTWISE, "excite": POINTWISE, "left": POINTWISE, "right": CONV,
                     "last": DENSE}  # groups of several channels have no role


def test_outputs_can_go_where_nothing_else_asks_for_them_or_where_the_layer_is_the_first_of_those_that_share_them():
    roles = given(read(":residual")).roles
    assert {path for path, role in roles.items() if role.removable} == {"conv3"}  # the others' channels are picked among zeros
    assert {path for path, role in given(read(":mixed")).roles.items() if role.removable} == {"reduce", "left", "right"}
    assert {path for path, role in given(read(":trunk")).roles.items() if role.removable} == {"stem", "inside"}


@pytest.mark.parametrize("name", zoo.names())
def test_published_networks_can_be_compressed_wherever_they_say_so(name):
    shape = (3, 32, 32)
    network = given_network(SimpleNamespace(source=f"{name}@32", weights=""), shape, 10)
    roles, x = given(network).roles, torch.randn(4, *shape)
    layers = [layer for layer in zoo.network(name, 32, 10).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(roles) == len(layers) and any(role.removable for role in roles.values())
    chains = " ".join(f"{path}={'l1_filters-keep0.5+' if role.removable else ''}int8" for path, role in roles.items())
    candidate = Candidate.parse(f"given-network_{network}:10/1 [{chains}]")
    whole = build(candidate, shape)
    weights = sum(parameter.numel() for parameter in whole.parameters())
    frozen = freeze(prepare(whole, candidate.chains, Calibration.unlabelled(x), lambda graph: settled(graph, x)))
    stored = sum(tensor.numel() for tensor in frozen.state_dict().values())
    assert frozen(x).shape == (4, 10) and bool(torch.isfinite(frozen(x)).all()) and stored < weights


def test_what_is_removed_is_what_would_be_zero():
    x, masked, weight = torch.randn(16, *SHAPE), residual(), residual().conv3.weight
    removed = module(read(":residual"))
    remove_channels(removed, [("conv3", parse("compression", "l1_filters-keep0.4"))], Calibration.unlabelled(x))
    gone = weight.abs().sum((1, 2, 3)).argsort()[:5]
    with torch.no_grad():
        masked.bn3.weight[gone], masked.bn3.bias[gone] = 0, 0
        torch.testing.assert_close(removed.eval()(x), masked(x), rtol=0, atol=1e-5)
    assert removed.conv4.weight.shape[1] == 4


@pytest.mark.parametrize("form", ["safetensors", "npz", "pt", "nested.pth"])
def test_weights_are_read_from_each_form(form, tmp_path):
    from safetensors.torch import save_file

    tensors, file = residual().state_dict(), tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(tensors, file)
    elif form == "npz":
        np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})
    elif form == "pt":
        torch.save(tensors, file)
    else:
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}, "epoch": 3}, file)
    x = torch.randn(4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(module(read(":untrained", file))(x), residual()(x), rtol=1e-4, atol=1e-5)


class Trap:
    def __reduce__(self):
        return (print, ("was run",))


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, capsys):
    torch.save({"conv1.weight": Trap()}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        read(":untrained", tmp_path / "weights.pt")
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("change, said", [
    (lambda tensors: tensors.pop("conv2.weight"), "lacks 1 tensors, of which the first is conv2.weight"),
    (lambda tensors: tensors.update(extra=torch.zeros(2)), "has, beyond the network's, 1 tensors, of which the first is extra"),
    (lambda tensors: tensors.update({"linear.bias": torch.zeros(6)}), "in another shape 1 tensors, of which the first is linear.bias")])
def test_weights_of_another_network_are_refused_by_name(change, said, tmp_path):
    tensors = residual().state_dict()
    change(tensors)
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=said):
        read(":untrained", tmp_path / "weights.pt")


def test_weights_that_are_not_there_are_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"model.weights 'nowhere.npz' does not exist"):
        read(":untrained", "nowhere.npz")


@pytest.mark.parametrize("source, said", [(":odd", "fft_rfft"), (":twice", "the layer [02] is used twice"), ("resnet20@32", "the data has 5 classes"),
                                          (":nothing", "nothing"),
                                          (":scaled_sum", "add"), (":mirrored", "pad"), (":two_results", "2 results"),
                                          (":norm_of_rows", "batch_norm")])
def test_a_network_that_cannot_be_compressed_is_refused_with_the_reason(source, said):
    with pytest.raises(ModelError, match=said):
        read(source)


def test_a_network_is_called_by_its_content_and_goes_with_a_folder(tmp_path):
    network = read(":mixed")
    assert read(":mixed") == network != read(":residual")
    copy_to(network, tmp_path)
    file_of(network).unlink()
    given.cache_clear()
    with pytest.raises(SpaceError, match="netwright resume"):
        Candidate.parse(f"given-network_{network}:5/1")
    assert copy_from(tmp_path) == [network]
    assert str(Candidate.parse(f"given-network_{network}:5/1 [*=int8]")) == f"given-network_{network}:5/1 [*=int8]"


def test_a_broken_file_in_the_cache_is_mended_by_a_study_of_it(tmp_path):
    network = read(":mixed")
    copy_to(network, tmp_path)
    file_of(network).write_bytes(b"broken")
    copy_from(tmp_path)
    given.cache_clear()
    assert given(network).classes == 5


def test_a_copy_that_is_not_what_its_name_says_is_not_believed(tmp_path):
    network = read(":mixed")
    copy_to(network, tmp_path)
    file_of(network).unlink()
    (tmp_path / file_of(network).name).write_bytes(b"other")
    copy_from(tmp_path)
    assert not file_of(network).is_file()


def test_a_layer_that_the_network_has_not_is_named():
    network = read(":mixed")
    with pytest.raises(SpaceError, match="has no role 'stem.1'; it has: stem.0, depthwise"):
        Candidate.parse(f"given-network_{network}:5/1 [stem.1=int8]")
    with pytest.raises(SpaceError, match="tells 5 classes"):
        build(Candidate.parse(f"given-network_{network}:7/1"), SHAPE)
