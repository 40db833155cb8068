"""Penalties on groups of weights and what they remove: group lasso on filters and channels [80], and on outgoing weights [75]."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from spaces.build import build
from spaces.candidate import Candidate
from spaces.channels import Channels, channels_of, lowest, shares, under
from spaces.compress import before, remove_channels
from spaces.gene import SpaceError, parse
from spaces.recipe import Run
from spaces.site import Calibration
from spaces.trace import trace

SHAPE = (3, 8, 8)
METHODS = ["structured_sparsity", "group_lasso"]


def network(text: str) -> nn.Module:
    torch.manual_seed(0)
    made = build(Candidate.parse(text), SHAPE)
    for norm in (module for module in made.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return made


def groups(made: nn.Module, path: str) -> Channels:
    return channels_of(made.get_submodule(path), trace(made), torch.randn(1, *SHAPE))


def array(made: nn.Module, name: str) -> np.ndarray:
    return made.get_parameter(name).detach().double().numpy()


PLAIN = "conv-norm_none:6/1 fire-squeeze0.5:8/1 conv-kernel1-norm_none:5/1 classifier:4/1"
RESIDUAL = "conv-norm_none:8/1 mbconv-expand2:8/1 mbconv-expand2-se0.5:8/1 classifier:4/1"


def test_a_group_lasso_is_on_filters_with_their_biases_and_on_the_kernels_behind_the_concatenation():
    """Of expand3x3, whose outputs are the last four of eight channels: by loops in NumPy."""
    made = network(PLAIN)
    weight, bias, reader = (array(made, f"layers.{name}") for name in ("1.expand3x3.weight", "1.expand3x3.bias", "2.conv.weight"))
    filters = sum(np.sqrt((weight[n] ** 2).sum() + bias[n] ** 2) for n in range(4))
    channels = sum(np.sqrt((reader[:, 4 + n] ** 2).sum()) for n in range(4))
    found = parse("compression", "structured_sparsity-filters0.25-channels0.5").penalty(groups(made, "layers.1.expand3x3"))
    assert float(found.detach()) == pytest.approx(0.25 * filters + 0.5 * channels, rel=1e-6)


@pytest.mark.parametrize("kind", ["l1", "group", "sparse_group"])
def test_the_sparse_group_lasso_is_on_outgoing_weights_by_the_root_of_their_number_and_on_each_bias(kind):
    """Of squeeze, which a 1x1 and a 3x3 convolution of four filters each read: |g| = 4 + 36."""
    made = network(PLAIN)
    narrow, wide, bias = (array(made, f"layers.1.{name}") for name in ("expand1x1.weight", "expand3x3.weight", "squeeze.bias"))
    outgoing = [np.concatenate([narrow[:, n].ravel(), wide[:, n].ravel()]) for n in range(4)]
    assert len(outgoing[0]) == 40
    sums = {"group": sum(40**0.5 * np.linalg.norm(g) for g in outgoing) + np.abs(bias).sum(),
            "l1": sum(np.abs(g).sum() for g in outgoing) + np.abs(bias).sum()}
    sums["sparse_group"] = sums["group"] + sums["l1"]
    found = parse("compression", f"group_lasso-kind_{kind}-strength0.5").penalty(groups(made, "layers.1.squeeze"))
    assert float(found.detach()) == pytest.approx(0.5 * sums[kind], rel=1e-6)


def test_whatever_is_added_or_gates_belongs_to_the_group():
    made = network(RESIDUAL)
    modules = dict(made.named_modules())

    def paths(ends):
        return {name for name, module in modules.items() for end in ends if end.layer is module}
    first = groups(made, "layers.0.conv")
    assert paths(first.writers) == {"layers.0.conv", "layers.1.project", "layers.2.project"}
    assert paths(first.readers) == {"layers.1.expand", "layers.2.expand", "layers.3.dense"}
    gated = groups(made, "layers.2.expand")
    assert paths(gated.writers) == {"layers.2.expand", "layers.2.excite"}
    assert paths(gated.readers) == {"layers.2.reduce", "layers.2.project"}


def test_a_channel_of_a_residual_stays_while_one_layer_writes_it_and_goes_once_none_does():
    made, method = network(RESIDUAL), parse("compression", "structured_sparsity")
    silence(made, "layers.0.conv", 3)
    silence(made, "layers.1.project", 3)
    assert gone(made, method) == []
    silence(made, "layers.2.project", 3)
    assert gone(made, method) == [3]


@pytest.mark.parametrize("name", METHODS)
def test_a_channel_goes_once_nothing_reads_it(name):
    made, method = network(RESIDUAL), parse("compression", name)
    made.get_submodule("layers.1.expand").weight.data[:, 5] = 0
    made.get_submodule("layers.2.expand").weight.data[:, 5] = 0
    assert gone(made, method) == []
    made.get_submodule("layers.3.dense").weight.data[:, 5] = 0
    assert gone(made, method) == [5]


def silence(made: nn.Module, path: str, channel: int) -> None:
    made.get_submodule(path).weight.data[channel] = 0
    shift = made.get_submodule(path).bias
    norm = made.get_submodule(f"{path}_norm") if shift is None else None
    (shift if norm is None else norm.bias).data[channel] = 0


def gone(made: nn.Module, method) -> list[int]:
    from spaces.site import Site

    path = "layers.0.conv"
    return method.removed(Site(made.get_submodule(path), path, trace(made), Calibration.unlabelled(torch.randn(2, *SHAPE))))


NORMED = "conv:6/1 conv:8/1 conv:5/1 classifier:4/1"


@pytest.mark.parametrize("name", METHODS)
def test_norms_hide_no_group(name):
    """Factors that norms take away, of a filter and of all filters of a layer, change no penalty that is on these."""
    made, method = network(NORMED), parse("compression", f"{name}-{'strength' if name == 'group_lasso' else 'filters'}1")
    penalty = float(method.penalty(groups(made, "layers.1.conv")).detach())
    with torch.no_grad():
        made.get_submodule("layers.1.conv").weight *= torch.rand(8, 1, 1, 1) + 0.1
        made.get_submodule("layers.2.conv").weight *= 1e-3
        if name == "structured_sparsity":
            made.get_submodule("layers.1.norm").weight *= 0.01
            made.get_submodule("layers.1.norm").bias *= 0.01
    assert float(method.penalty(groups(made, "layers.1.conv")).detach()) == pytest.approx(penalty, rel=1e-5)


def test_filters_behind_a_norm_count_as_its_factor_and_shift():
    made = network(NORMED)
    factor, shift = array(made, "layers.2.norm.weight"), array(made, "layers.2.norm.bias")
    np.testing.assert_allclose(groups(made, "layers.2.conv").written().detach(), np.hypot(factor, shift), rtol=1e-5)


def test_a_factor_of_all_channels_is_not_learnt_from_the_penalty_where_norms_would_take_it_away():
    made = network(NORMED)
    parse("compression", "structured_sparsity").penalty(groups(made, "layers.0.conv")).backward()
    factor, shift = (made.get_parameter(f"layers.0.norm.{name}") for name in ("weight", "bias"))
    assert float(factor.detach() @ factor.grad + shift.detach() @ shift.grad) == pytest.approx(0, abs=1e-7)
    assert float(factor.grad.abs().max()) > 1e-4 and made.get_parameter("layers.1.norm.weight").grad is None
    turned = made.get_parameter("layers.1.conv.weight")
    assert (turned * turned.grad).sum((1, 2, 3)).abs().max() < 1e-7 < turned.grad.abs().max(), "it turns filters, and shrinks none"


@pytest.mark.parametrize("name", METHODS)
def test_groups_at_zero_have_a_gradient_of_zero(name):
    made = network("conv-norm_none:6/1 conv-norm_none:8/1 classifier:4/1")
    silence(made, "layers.0.conv", 2)
    made.get_submodule("layers.1.conv").weight.data[:, 2] = 0
    parse("compression", name).penalty(groups(made, "layers.0.conv")).backward()
    first, second = (made.get_parameter(f"layers.{i}.conv.weight").grad for i in (0, 1))
    assert torch.isfinite(second).all() and not second[:, 2].any() and second[:, 1].all()
    assert first is None or torch.isfinite(first).all() and not first[2].any()


@pytest.mark.parametrize("threshold, expected", [(0.0, []), (0.1, [2]), (0.5, [0, 2]), (1.0, [0, 2, 3])])
def test_what_is_under_a_share_of_the_largest_goes_and_the_largest_stays(threshold, expected):
    assert under(shares(torch.tensor([2.0, 10.0, 0.5, 9.0])), threshold) == expected


def test_one_channel_stays_where_each_is_faint_on_one_side():
    assert under(torch.tensor([0.01, 0.02, 0.03]), 0.5) == [0, 1]


def test_the_lowest_go_in_equal_numbers_whatever_their_order():
    assert lowest(torch.tensor([3.0, 1.0, 2.0, 1.0, 5.0]), 0.6) == [1, 3]
    assert lowest(torch.tensor([3.0, 1.0, 2.0]), 0.01) == [1, 2]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value, said", [(0.0, "counts for 0"), (float("nan"), "is not finite")])
def test_a_layer_whose_groups_cannot_be_judged_names_itself(name, value, said):
    made = network("conv:6/1 conv-norm_none:8/1 classifier:4/1")
    for path in ("layers.1.conv", "layers.2.dense"):
        nn.init.constant_(made.get_submodule(path).weight, value)
        nn.init.constant_(made.get_submodule(path).bias, value)
    with pytest.raises(SpaceError, match=f"layers.1.conv: {name}: .*{said}"):
        remove_channels(made, [("layers.1.conv", parse("compression", name))], Calibration.unlabelled(torch.randn(1, *SHAPE)))


@pytest.mark.parametrize("name", METHODS)
def test_shapes_are_known_once_the_network_is_trained(name):
    assert not parse("compression", name).shapes_fixed and parse("compression", "taylor_filters").shapes_fixed


class Perceptron:
    """Digits by dense layers of 64, 40, 20 and 10 neurons, trained by all images at once; a token's penalty and removal on both hidden
    layers."""

    def __init__(self, token: str, steps: int):
        torch.manual_seed(0)
        images, labels = load_digits(return_X_y=True)
        self.images, self.labels = torch.tensor(images, dtype=torch.float32).view(-1, 64, 1, 1) / 16, torch.tensor(labels)
        self.train, self.test = torch.randperm(len(labels)).split(1400)
        hidden = " ".join(f"conv-kernel1-norm_none:{width}/1 [*={token}]" for width in (40, 20))
        self.candidate = Candidate.parse(f"{hidden} classifier:10/1")
        self.network = build(self.candidate, (64, 1, 1))
        self._learn(steps)
        self.whole = self.accuracy()
        sites = [(f"layers.{i}.conv", parse("compression", token)) for i in (0, 1)]
        remove_channels(self.network, sites, Calibration(self.images[:8], self.labels[:8]))

    def _learn(self, steps: int) -> None:
        parts = [part.hooks(Run(self.network, None, self.images[:8], 1, steps)) for part in before(self.candidate.chains)]
        optimiser = torch.optim.Adam(self.network.train().parameters(), 0.02)
        pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            optimiser.zero_grad()
            loss = functional.cross_entropy(self.network(self.images[self.train]), self.labels[self.train])
            (loss + sum(part.penalty() for part in parts)).backward()
            optimiser.step()
            pace.step()

    @torch.no_grad()
    def accuracy(self) -> float:
        found = self.network.eval()(self.images[self.test]).argmax(1)
        return float((found == self.labels[self.test]).float().mean())

    def widths(self) -> list[int]:
        return [self.network.get_submodule(f"layers.{i}.conv").out_channels for i in (0, 1)]

    def weights(self) -> int:
        """How many weights read hidden neurons, not counting those at zero."""
        readers = [self.network.get_parameter(f"layers.{name}.weight").detach().abs() for name in ("1.conv", "2.dense")]
        return sum(int((weight > 1e-3 * weight.max()).sum()) for weight in readers)


def test_digits_lose_half_of_their_hidden_neurons_and_no_accuracy():
    """[75]: 50% of 60 hidden neurons at most a point worse; what is removed changes nothing."""
    plain, sparse = (Perceptron(f"group_lasso-strength{strength}", 600) for strength in (0, 0.001))
    assert plain.widths() == [40, 20] and sum(sparse.widths()) <= 30
    assert sparse.accuracy() >= plain.accuracy() - 0.01
    assert sparse.accuracy() == pytest.approx(sparse.whole, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("kind, left", [("l1", lambda trained: sum(trained.widths())), ("group", lambda trained: trained.weights())])
def test_the_sparse_group_lasso_keeps_fewer_neurons_than_l1_and_fewer_weights_than_groups_alone(kind, left):
    """At equal accuracy: the other is made stronger until it is no more accurate."""
    sparse = Perceptron("group_lasso", 600)
    others = (Perceptron(f"group_lasso-kind_{kind}-strength{strength}", 600) for strength in (0.001, 0.002, 0.004, 0.008, 0.016))
    other = next(trained for trained in others if trained.accuracy() <= sparse.accuracy())
    assert left(sparse) < left(other)
