"""Weights of few values in float networks: stored as codes, channels keep their sizes, norms come back and are gone when frozen."""

import copy

import pytest
import torch
from torch import nn

from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.levels import sizes_of
from spaces.norms import takes_up
from tests.spaces.test_norms import SHAPE, norms, prepared, trained

# Bits of a stored weight, and numbers in the table.
FORMATS = {"ttq": (2, 3), "binary_connect": (1, 2), "inq": (5, 17), "inq-bits4": (4, 9), "inq-bits3": (3, 5), "inq-bits2": (2, 3)}


def channels() -> nn.Conv2d:
    """A convolution of channels of very different sizes, one of them zero."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3, padding=1)
    layer.weight.data *= torch.logspace(-3, 1, 8).view(-1, 1, 1, 1)
    layer.weight.data[2] = 0
    return layer


@pytest.mark.parametrize("token", FORMATS)
def test_channels_are_brought_to_one_size_and_get_their_own_back(token):
    layer = channels()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    pair = parse("compression", token).prepare(layer)
    latent = pair[0].parametrizations.weight.original.detach()
    size = latent.abs().flatten(1).mean(1)
    expected = weight.abs().flatten(1).mean(1)
    expected = expected[expected > 0].mean()
    torch.testing.assert_close(size, torch.where(torch.arange(8) == 2, 0.0, expected))
    torch.testing.assert_close(latent * pair[1].weight, weight)
    assert torch.equal(pair[1].bias, bias) and pair[0].bias is None


@pytest.mark.parametrize("token", FORMATS)
def test_a_channel_of_zeros_gives_its_bias(token):
    layer, x = channels(), torch.randn(2, 6, 5, 5)
    out = parse("compression", token).prepare(layer).eval()(x)
    assert bool((out[:, 2] == out[0, 2, 0, 0]).all())


def test_sizes_are_those_of_weights_that_are_not_zero():
    weight = torch.tensor([[1.0, -1, 0, 0], [3, 3, -3, 3], [0, 0, 0, 0]])
    assert sizes_of(weight).tolist() == [0.5, 1.5, 0.0]


@pytest.mark.parametrize("token", FORMATS)
def test_a_channel_of_size_deploys_to_codes_and_what_was_trained(token):
    bits, entries = FORMATS[token]
    pair, x = parse("compression", token).prepare(channels()), torch.randn(4, 6, 9, 9)
    frozen = freeze(nn.Sequential(pair, nn.ReLU()))
    torch.testing.assert_close(frozen(x), torch.relu(pair.eval()(x)), rtol=1e-5, atol=1e-5)
    stored = {name.removeprefix("0."): tensor.nbytes for name, tensor in frozen.state_dict().items()}
    assert stored["0.weight_codes"] == -(-8 * 6 * 9 * bits // 8) and stored["0.weight_table"] == 4 * entries
    assert sum(stored.values()) == stored["0.weight_codes"] + 4 * entries + 3 * 4 * 8


@pytest.mark.parametrize("token", FORMATS)
@pytest.mark.parametrize("layer, shape", [(nn.Conv2d(8, 12, 3, 2, 2, 2, groups=4, bias=False), (3, 8, 11, 13)),
                                          (nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8), (3, 8, 7, 5)), (nn.Linear(37, 11), (5, 37))])
def test_the_weights_that_are_read_back_are_the_trained_ones_to_the_bit(token, layer, shape):
    prepared_layer = parse("compression", token).prepare(copy.deepcopy(layer)).eval()
    inner = prepared_layer if isinstance(layer, nn.Linear) else prepared_layer[0]
    form = inner.parametrizations.weight[0].pack(inner.weight.detach())
    op = getattr(torch.ops.netwright, form.op)
    read = op(*(form.arguments[argument.name] for argument in op.default._schema.arguments))
    assert torch.equal(read, inner.weight)
    x = torch.randn(shape)
    torch.testing.assert_close(freeze(nn.Sequential(prepared_layer))(x), prepared_layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("token", FORMATS)
def test_norms_come_back_and_a_trained_network_deploys_to_what_it_computed(token, warm):
    graph, x = trained(prepared(token, warm)), torch.randn(32, *SHAPE)
    assert {"layers.0.conv_renorm", "layers.1.expand_renorm", "layers.2.expand3x3_renorm"} < set(norms(graph))
    with torch.no_grad():
        expected = graph(x)
    deployed = freeze(graph)
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert not norms(deployed)


@pytest.mark.parametrize("token", FORMATS)
def test_a_convolution_takes_a_norm_up_and_a_dense_layer_has_none(token):
    method = parse("compression", token)
    assert takes_up(method.prepare(nn.Conv2d(8, 8, 3))) and not takes_up(method.prepare(nn.Linear(8, 8)))


@pytest.mark.parametrize("token", FORMATS)
def test_layers_without_a_scale_or_with_shared_weights_are_refused(token):
    method, layer = parse("compression", token), nn.Linear(8, 4)
    nn.init.zeros_(layer.weight)
    with pytest.raises(SpaceError, match="all weights are zero"):
        method.prepare(layer)
    with pytest.raises(SpaceError, match="share numbers"):
        method.prepare(parse("compression", "codebook").prepare(nn.Linear(8, 4)))


@pytest.mark.parametrize("token", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latent_weights_that_are_not_finite_name_their_layer(token, value):
    layer = parse("compression", token).prepare(nn.Linear(8, 4))
    layer.parametrizations.weight.original.data[1, 2] = value
    with pytest.raises(SpaceError, match="^0: weight is not finite"):
        freeze(nn.Sequential(layer))


@pytest.mark.parametrize("token", ["ttq", "inq-bits3"])
def test_masked_weights_stay_zero_and_are_stored_by_a_bitmap_where_that_is_smaller(token, warm):
    torch.manual_seed(0)
    layer = parse("compression", "magnitude-keep0.1").prepare(nn.Linear(64, 40))
    kept = layer.weight != 0
    layer = parse("compression", token).prepare(layer)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1, weight_decay=0.01)
    for _ in range(5):
        layer.train()(torch.randn(16, 64)).square().sum().backward()
        optimiser.step()
    frozen, x = freeze(nn.Sequential(layer)), torch.randn(3, 64)
    assert not layer.weight[~kept].any()
    torch.testing.assert_close(frozen(x), layer.eval()(x), rtol=1e-5, atol=1e-5)
    bits, entries = FORMATS[token]
    weights = sum(tensor.nbytes for name, tensor in frozen.state_dict().items() if "weight" in name)
    assert weights == 64 * 40 // 8 + -(-int(kept.sum()) * bits // 8) + 4 * entries
