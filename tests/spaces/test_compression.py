"""Compressions: each through prepare, training and freezing on every kind of layer it fits, and its proof."""

import pytest
import torch
from torch.nn.utils import parametrize

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.build import build
from spaces.candidate import Candidate, fits
from spaces.compress import coded, prepare
from spaces.freeze import freeze
from spaces.gene import SpaceError, load, names, parse
from spaces.huffman import stored_bytes
from spaces.method import QUANTISE
from spaces.site import Calibration

TOKENS = {"svd": "svd-rank2", "cp": "cp-rank2", "magnitude": "magnitude-keep0.3", "tensor_train": "tensor_train-rank2",
          "block_sparse": "block_sparse-rows4-keep0.3", "product_quantised": "product_quantised-bits2",
          "structured_sparsity": "structured_sparsity-threshold0.9", "group_lasso": "group_lasso-threshold0.9"}
HOME = {CONV: ("conv", "conv"), POINTWISE: ("mbconv-expand3", "expand"), DEPTHWISE: ("mbconv-expand3", "depthwise"),
        DENSE: ("classifier", "dense")}
SHAPE = (3, 12, 12)


def line(kind: str, chain: str) -> str:
    """A candidate in which one layer of a kind is compressed."""
    block, role = HOME[kind]
    if kind == DENSE:
        return f"conv:16/2 classifier:5/1 [{role}={chain}]"
    return f"conv:16/2 {block}:16/1 [{role}={chain}] classifier:5/1"


def prepared(text: str, warm, shape=SHAPE):
    """A candidate after a little dense training, with its compressions in place."""
    torch.manual_seed(0)
    candidate = Candidate.parse(text)
    network = build(candidate, shape)
    warm(shape)(network)
    return prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *shape)), warm(shape))


CASES = [(name, kind) for name in names("compression") for kind in load("compression", name).APPLIES
         if fits(parse("compression", TOKENS.get(name, name)), parse("blocks", HOME[kind][0]), HOME[kind][1])]


@pytest.mark.parametrize("name, kind", CASES)
@pytest.mark.parametrize("tail", ["", "+int8"])
def test_a_method_trains_and_freezes_to_what_was_trained(name, kind, tail, warm):
    if tail and load("compression", name).PHASE >= QUANTISE:
        pytest.skip("numbers change once")
    graph = prepared(line(kind, TOKENS.get(name, name) + tail), warm)
    optimiser = torch.optim.SGD(graph.parameters(), 0.01, momentum=0.9)
    for _ in range(5):
        loss = graph.train()(torch.randn(16, *SHAPE)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.randn(64, *SHAPE)
    with torch.no_grad():
        expected = graph.eval()(x)
    frozen = freeze(graph)
    rounded = any("int8" in str(node.target) or "binary" in str(node.target) for node in frozen.graph.nodes)
    tolerance = 0.02 * float(expected.abs().max()) if rounded else 1e-5
    torch.testing.assert_close(frozen(x), expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name, kind", CASES)
def test_a_method_changes_what_is_stored(name, kind, warm):
    def stored(chain):
        state = freeze(prepared(line(kind, chain), warm)).state_dict()
        return sum(stored_bytes({n: t.numpy() for n, t in state.items()}, coded(Candidate.parse(line(kind, chain)).chains)).values())
    assert stored(TOKENS.get(name, name)) < stored("none")


def test_int8_layers_hand_integers_to_each_other(warm):
    text = "conv:8/1 [*=int8] fire:16/2 [*=int8] fire:16/2 [*=int8] classifier:5/1 [*=int8]"
    graph = freeze(prepared(text, warm))
    names_of = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert sum("quantize" in name for name in names_of) == 1, "the image, nothing after it"
    assert sum("int8" in name for name in names_of) == 8


def test_int8_weights_are_rounded_to_the_nearest_step_of_their_channel(warm):
    graph = prepared("conv:8/1 [*=int8] classifier:5/1", warm)
    layer = graph.get_submodule("layers.0.conv").layer
    expected = torch.round(127 * layer.weight / layer.weight.abs().amax((1, 2, 3), keepdim=True))
    stored = freeze(graph).state_dict()["layers.0.conv.weight"]
    assert stored.dtype == torch.int8
    assert (stored - expected).abs().max() <= 1 and (stored == expected).float().mean() > 0.99


def test_int8_passes_gradients_straight_through_inside_the_range_and_none_outside(warm):
    layer = prepared("conv-kernel1:4/1 [*=int8] classifier:5/1", warm).get_submodule("layers.0.conv").eval()
    x = torch.tensor([0.5 * float(layer.high), 2 * float(layer.high)]).reshape(2, 1, 1, 1).repeat(1, 3, 1, 1)
    x.requires_grad_(True)
    layer(x).sum().backward()
    steps = layer.weight_scale()[:, None]
    rounded = torch.round(layer.layer.weight.flatten(1) / steps) * steps
    torch.testing.assert_close(x.grad[0].flatten(), rounded.sum(0), rtol=1e-4, atol=1e-5)
    assert x.grad[1].abs().max() == 0


def test_int8_refuses_a_layer_that_saw_nothing(warm):
    graph = prepared("conv:8/1 [*=int8] classifier:5/1", warm)
    graph.get_submodule("layers.0.conv").high.fill_(0)
    graph.get_submodule("layers.0.conv").low.fill_(0)
    with pytest.raises(SpaceError, match=r"layers.0.conv: int8: the inputs' range is 0 to 0"):
        freeze(graph)


def test_int8_refuses_sums_that_could_overflow():
    layer = parse("compression", "int8").prepare(torch.nn.Linear(80_000, 1))
    torch.nn.init.ones_(layer.layer.weight)
    layer.high.fill_(1.0)
    with pytest.raises(SpaceError, match="past 32 bits"):
        layer.deploy(None, -float("inf"), float("inf"))


def test_int8_deploys_a_channel_that_training_gave_up_as_its_bias():
    """Weights of 1e-13 beside a bias of 2: in their own steps the bias would be past 32 bits."""
    layer = parse("compression", "int8").prepare(torch.nn.Linear(16, 3))
    with torch.no_grad():
        layer.layer.weight[1], layer.layer.bias[1] = 1e-13, 2.0
        layer.high.fill_(1.0)
    deployed, x = layer.deploy(None, -float("inf"), float("inf")), torch.rand(4, 16)
    weight, bias, scale = (deployed.tensors[name] for name in ("weight", "bias", "scale"))
    steps = torch.round(x * 255).double() @ weight.double().T + bias
    torch.testing.assert_close((steps * scale)[:, 1], torch.full((4,), 2.0, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close((steps * scale).float(), layer.layer(x), rtol=0, atol=0.02)
    assert not weight[1].any() and weight[0].any()


def test_svd_is_the_best_approximation_of_its_rank():
    """Eckart and Young: the error is the norm of the singular values left out; [62] asks for 1e-5."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 30)
    pair = parse("compression", "svd-rank7").prepare(layer)
    product = pair[1].weight @ pair[0].weight
    left_out = torch.linalg.svdvals(layer.weight.detach())[7:].square().sum().sqrt()
    assert float((layer.weight - product).detach().norm()) == pytest.approx(float(left_out), rel=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_svd_of_full_energy_leaves_a_convolution_as_it_is_in_value(kernel):
    layer = torch.nn.Conv2d(4, 16, kernel, 2, kernel // 2)
    layer.weight.data = torch.einsum("or,rchw->ochw", torch.randn(16, 2), torch.randn(2, 4, kernel, kernel))
    pair = parse("compression", "svd-energy0.999999").prepare(layer)
    x = torch.randn(2, 4, 9, 9)
    assert pair[0].out_channels == 2
    torch.testing.assert_close(pair(x), layer(x), rtol=1e-3, atol=1e-4)


def test_svd_rank_for_a_quarter_of_the_weights():
    """[62]: 73% fewer weights of a 2048 x 2048 layer is rank 276; past the break-even it stays dense."""
    kept = 276 * (2048 + 2048) / 2048**2
    assert 1 - kept == pytest.approx(0.73, abs=0.001)
    layer = torch.nn.Linear(64, 64)
    assert parse("compression", "svd-rank32").prepare(layer) is layer
    assert parse("compression", "svd-rank31").prepare(layer) is not layer


def test_magnitude_keeps_the_largest_and_training_never_revives_the_others():
    layer = torch.nn.Linear(20, 10)
    largest = layer.weight.detach().abs().flatten().topk(60).indices
    layer = parse("compression", "magnitude-keep0.3").prepare(layer)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(20):
        layer(torch.randn(8, 20)).square().sum().backward()
        optimiser.step()
    kept = layer.weight.flatten().nonzero().flatten()
    assert set(kept.tolist()) == set(largest.tolist())
    assert parametrize.is_parametrized(layer, "weight") and bool((layer.bias != 0).all())


def test_masked_weights_are_stored_as_bitmap_and_kept_values(warm):
    state = freeze(prepared("conv:16/1 [*=magnitude-keep0.25] classifier:5/1", warm)).state_dict()
    assert state["layers.0.conv.weight_bitmap"].numel() == 16 * 3 * 9 // 8
    assert state["layers.0.conv.weight_values"].numel() == 16 * 3 * 9 // 4


def test_masked_weights_are_stored_whole_where_a_bitmap_would_be_larger(warm):
    state = freeze(prepared("conv:16/1 [*=magnitude-keep0.95+int8] classifier:5/1", warm)).state_dict()
    assert "layers.0.conv.weight" in state


@pytest.mark.parametrize("token", ["svd-rank8", "tensor_train-rank4"])
@pytest.mark.parametrize("width", [32, 600])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_layer(token, width, value, warm):
    candidate = Candidate.parse(f"conv:{width}/2 mbconv-expand1:{width}/1 [project={token}] classifier:5/1")
    network = build(candidate, SHAPE)
    network.get_submodule("layers.1.project").weight.data[3, 4] = value
    with pytest.raises(SpaceError, match="layers.1.project: the trained weights are not finite"):
        prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))


@pytest.mark.parametrize("token", ["svd-rank8", "tensor_train-rank4", "kronecker-terms2"])
@pytest.mark.parametrize("width", [32, 600])
def test_compressed_weights_that_are_not_finite_after_training_name_their_layer(token, width, warm):
    graph = prepared(f"conv:{width}/2 mbconv-expand1:{width}/1 [project={token}] classifier:5/1", warm)
    weights = [value for name, value in graph.get_submodule("layers.1.project").named_parameters() if "weight" in name]
    weights[0].data[0] = float("nan")
    with pytest.raises(SpaceError, match="layers.1.project.*: weight is not finite"):
        freeze(graph)
