"""Training of layers that take part in it themselves: what is fixed or clipped behind its steps, also in a run that was interrupted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from evaluators.training import checkpoint as checkpoints
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset, Split
from evaluators.training.loop import train
from evaluators.training.schedule import Schedule
from spaces.recipe import Hooks
from tests.spaces.test_inq import check_all_in_p, levels_of, network_of

SCHEDULE = Schedule(3, 16, 0.05, 1e-2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images = torch.randint(0, 256, (64, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, (images.float().mean((1, 2, 3)) > 127).long())
    return Dataset(split, split, split, ("dark", "light"), torch.tensor([127.5]), torch.tensor([74.0]), ())


def layers(network: nn.Sequential) -> list[nn.Module]:
    return [network[0][0], network[3]]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("token", ["inq-bits3", "inq-bits3-start0.3-partition_random"])
def test_a_run_ends_with_all_weights_fixed_in_p(token, ema, dataset):
    network = network_of(token)
    train(network, dataset, replace(SCHEDULE, ema=ema), 0)
    for layer in layers(network):
        assert bool(levels_of(layer).fixed.all())
        assert bool(torch.isin(layer.eval().weight, levels_of(layer).table()).all())
    check_all_in_p(network, 5)


def test_without_a_running_mean_evaluation_sees_what_was_fixed_in_training(dataset):
    network = network_of("inq")
    train(network, dataset, SCHEDULE, 0)
    for layer in layers(network):
        assert torch.equal(layer.train().weight, layer.eval().weight)


@pytest.mark.parametrize("token", ["binary_connect", "binary_connect-mode_stochastic"])
def test_a_run_ends_with_the_real_weights_clipped(token, dataset):
    network = network_of(token)
    train(network, dataset, SCHEDULE, 0)
    for layer in layers(network):
        reach = float(levels_of(layer).reach)
        assert float(layer.parametrizations.weight.original.detach().abs().max()) == pytest.approx(reach)


class Stopping(Hooks):
    """Ends a run at the last epoch."""

    def on_epoch(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt


class Interruption:
    """A recipe that does."""

    def hooks(self, run):
        return Stopping()


class Hookless:
    """A recipe that does nothing."""

    def hooks(self, run):
        return Hooks()


@pytest.mark.parametrize("token", ["inq", "binary_connect-mode_stochastic", "ttq"])
def test_an_interrupted_run_goes_on_to_the_same_weights(token, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    whole, begun, resumed = (network_of(token) for _ in range(3))
    torch.manual_seed(5)
    train(whole, dataset, SCHEDULE, 1)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(begun, dataset, SCHEDULE, 1, [Interruption()], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    torch.manual_seed(99)
    train(resumed, dataset, SCHEDULE, 1, [Hookless()], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))
