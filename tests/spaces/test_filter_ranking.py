"""Filters ranked by what images show of them: the loss's Taylor expansion [17] and entropy [25]."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr
from sklearn.datasets import load_digits
from torch.nn import functional

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import remove_channels
from spaces.compression.entropy_filters import entropies
from spaces.compression.taylor_filters import loss_change
from spaces.gene import SpaceError, parse
from spaces.site import Calibration, Site
from spaces.trace import trace
from tests.spaces.masking import Masked


def digits() -> Calibration:
    images, labels = load_digits(return_X_y=True)
    return Calibration(torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, torch.tensor(labels))


def trained(text: str, data: Calibration, steps: int = 120):
    """A candidate's network after a little training, in eval mode."""
    torch.manual_seed(0)
    network = build(Candidate.parse(text), tuple(data.images.shape[1:]))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(data.labels), (128,))
        optimiser.zero_grad()
        functional.cross_entropy(network(data.images[chosen]), data.labels[chosen]).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def learnt():
    return trained("conv:16/1 conv:24/2 conv:32/2 classifier:10/1", digits())


def site(network, path: str, calibration: Calibration) -> Site:
    return Site(network.get_submodule(path), path, trace(network), calibration)


def test_the_loss_change_is_the_mean_size_of_each_image_s_mean_product():
    """By loops over images, channels and positions: neither the images' nor the positions' signs are lost too early."""
    rng = np.random.default_rng(0)
    maps, gradients = rng.standard_normal((2, 5, 3, 4, 2))
    expected = [sum(abs(sum(maps[n, c, y, x] * gradients[n, c, y, x] for y in range(4) for x in range(2)) / 8) for n in range(5)) / 5
                for c in range(3)]
    np.testing.assert_allclose(loss_change(torch.tensor(maps), torch.tensor(gradients)), expected, rtol=1e-12)


def test_the_loss_change_is_that_of_scaling_a_map_a_little(learnt):
    """theta of a map times its positions is |dC/da| at a = 1 where the map is multiplied by a, by central differences in float64."""
    at = site(learnt, "layers.1.conv", Calibration(digits().images[:4], digits().labels[:4]))
    rest, maps, step = copy.deepcopy(learnt.layers[2:]).double(), at.maps.double(), 1e-5

    def losses(channel, factor):
        scaled = maps.clone()
        scaled[:, channel] *= factor
        return functional.cross_entropy(rest(scaled), at.calibration.labels, reduction="none").detach()
    for channel in (0, 7, 20):
        expected = ((losses(channel, 1 + step) - losses(channel, 1 - step)) / (2 * step)).abs().mean() / maps[0, 0].numel()
        torch.testing.assert_close(loss_change(at.maps, at.map_gradients)[channel].double(), expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("path", ["layers.1.conv", "layers.2.conv"])
def test_the_expansion_ranks_as_removal_does_and_better_than_activations_and_norms(path, learnt):
    """[17] wants Spearman's rank correlation with the true |loss change| to be 0.5 at least."""
    data = Calibration(digits().images[:512], digits().labels[:512])
    at = site(learnt, path, data)
    with torch.no_grad():
        def loss(logits):
            return float(functional.cross_entropy(logits, data.labels))
        whole = loss(learnt(data.images))
        graph = trace(learnt)
        true = [abs(loss(Masked(graph, path, [c], data.images[:1]).run(data.images)) - whole) for c in range(at.layer.out_channels)]
    by_loss = spearmanr(loss_change(at.maps, at.map_gradients), true).statistic
    by_activation = spearmanr(at.maps.abs().mean((0, 2, 3)), true).statistic
    by_norm = spearmanr(at.layer.weight.detach().abs().sum((1, 2, 3)), true).statistic
    assert by_loss >= 0.5 and by_loss > max(by_activation, by_norm)


@pytest.mark.parametrize("name, rank", [("taylor_filters", lambda at: loss_change(at.maps, at.map_gradients)),
                                        ("entropy_filters", lambda at: entropies(at.maps.mean((2, 3)), 10))])
def test_the_lowest_ranks_go_and_the_share_stays(name, rank, learnt):
    at = site(learnt, "layers.2.conv", Calibration(digits().images[:100], digits().labels[:100]))
    removed = parse("compression", f"{name}-keep0.75").removed(at)
    scores = rank(at).numpy()
    assert len(removed) == 8 and scores[removed].max() <= np.delete(scores, removed).min()


def test_a_map_that_nothing_reads_goes_first(learnt):
    network = trained("conv:8/1 conv:8/1 classifier:10/1", digits(), 5)
    network.get_submodule("layers.1.conv").weight.data[:, 5] = 0
    assert parse("compression", "taylor_filters-keep0.9").removed(site(network, "layers.0.conv", digits())) == [5]


@pytest.mark.parametrize("bins", [2, 10, 50])
def test_entropy_is_that_of_each_filter_s_own_histogram(bins):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((300, 6)) ** 3 * [1, 10, 100, 0.01, 1, 1] + [0, 0, 5, 3, 0, 0]
    expected = [entropy(np.histogram(column, bins)[0]) for column in values.T]
    np.testing.assert_allclose(entropies(torch.tensor(values), bins), expected, rtol=1e-9)


def test_a_small_range_has_the_entropy_of_a_large_one():
    values = torch.randn(200, 1, dtype=torch.float64)
    torch.testing.assert_close(entropies(torch.cat([values, 1e-3 * values], 1), 10)[1], entropies(values, 10)[0])


def test_a_filter_of_constant_output_ranks_last(learnt):
    network = trained("conv:8/1 conv:8/1 classifier:10/1", digits(), 20)
    network.get_submodule("layers.0.conv").weight.data[3] = 0
    network.get_submodule("layers.0.norm").bias.data[3] = 100.0
    at = site(network, "layers.0.conv", digits())
    assert float(entropies(at.maps.mean((2, 3)), 10)[3]) == 0
    assert parse("compression", "entropy_filters-keep0.9").removed(at) == [3]


@pytest.mark.parametrize("name", ["l1_filters", "taylor_filters", "entropy_filters"])
@pytest.mark.parametrize("value, said", [(0.0, "counts for 0"), (float("nan"), "is not finite")])
def test_layers_that_cannot_be_ranked_name_themselves(name, value, said):
    network = trained("conv:8/1 conv-norm_none:8/1 classifier:10/1", digits(), 5)
    layer = network.get_submodule("layers.1.conv")
    layer.weight.data.fill_(value)
    layer.bias.data.fill_(value)
    with pytest.raises(SpaceError, match=f"layers.1.conv: {name}: .*{said}"):
        remove_channels(network, [("layers.1.conv", parse("compression", name))], digits())


def test_a_pooled_head_does_without_the_weights_of_three_dense_layers():
    """[25]: VGG-16's three hold 123,633,664 of its 138,344,128 weights (138,357,544 with biases); 512,000 are left of them."""
    stages = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    text = " ".join(f"conv-norm_none:{width}/{2 if not i and width > 64 else 1}" for width, count in stages for i in range(count))
    network = build(Candidate.parse(f"{text} classifier:1000/1"), (3, 32, 32))
    weights = [parameter.numel() for name, parameter in network.named_parameters() if name.endswith("weight")]
    dense = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    assert dense == 123_633_664 and sum(weights[:-1]) + dense == 138_344_128 and weights[-1] == 512_000
