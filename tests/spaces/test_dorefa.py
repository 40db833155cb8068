"""DoReFa: the numbers of weights, activations and gradients against what [35] states, and the integers they deploy to."""

import numpy as np
import pytest
import torch
from torch import nn

from spaces.compression.dorefa import quantised_gradient
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.norms import takes_up
from spaces.site import Calibration, Site
from spaces.trace import trace
from tests.spaces.test_norms import SHAPE, norms, trained


def compressed(token: str, layer: nn.Module, x: torch.Tensor) -> nn.Module:
    """The layer at the end of a network that sees inputs x."""
    network = nn.Sequential(nn.Identity(), layer, nn.Flatten())
    return parse("compression", token).prepare_at(Site(layer, "1", trace(network), Calibration.unlabelled(x)))


def dense(token: str, outputs: int = 6, inputs: int = 40) -> nn.Module:
    torch.manual_seed(0)
    return compressed(token, nn.Linear(inputs, outputs), torch.rand(50, inputs))


def quantiser(bits: int, x: np.ndarray) -> np.ndarray:
    return np.rint((2**bits - 1) * x) / (2**bits - 1)


def weight_rule(bits: int, weight: np.ndarray) -> np.ndarray:
    """Equations 8 and 9."""
    if bits == 1:
        return np.where(weight >= 0, 1, -1) * np.abs(weight).mean()
    return 2 * quantiser(bits, np.tanh(weight) / (2 * np.abs(np.tanh(weight)).max()) + 0.5) - 1


@pytest.mark.parametrize("bits", range(1, 7))
def test_weights_take_the_published_numbers_and_all_of_them(bits):
    layer = dense(f"dorefa-weights{bits}-activations8", 50, 200)
    weight, out = layer.layer.weight.detach().numpy(), (layer.realised() / layer.factor[:, None]).numpy()
    np.testing.assert_allclose(out, weight_rule(bits, weight), rtol=1e-5)
    unit = np.abs(weight).mean() if bits == 1 else 1
    np.testing.assert_allclose(np.unique((out / unit).round(4)), np.linspace(-1, 1, 2**bits), atol=1e-4)


@pytest.mark.parametrize("bits", [2, 4])
def test_no_other_factor_of_a_channel_is_nearer(bits):
    torch.manual_seed(0)
    dense_layer = nn.Conv2d(4, 5, 3)
    dense_layer.weight.data *= torch.logspace(-1, 1, 5).view(-1, 1, 1, 1)
    weight = dense_layer.weight.detach().clone()
    layer = compressed(f"dorefa-weights{bits}-activations8", dense_layer, torch.rand(4, 4, 6, 6))
    error = (layer.realised() - weight).square().sum((1, 2, 3))
    for factor in (0.97, 1.03):
        assert bool(((factor * layer.realised() - weight).square().sum((1, 2, 3)) > error).all())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_inputs_take_the_published_levels_of_the_reach(bits):
    clip, levels, _ = dense(f"dorefa-activations{bits}")
    reach, x = float(levels.high), torch.linspace(0, 3, 1001)
    out = levels(clip(x)).numpy()
    np.testing.assert_allclose(out, reach * quantiser(bits, np.clip(x.numpy() / reach, 0, 1)), rtol=1e-5)
    assert len(np.unique(out)) == 2**bits


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_no_other_reach_loses_less_of_the_calibration_images(bits):
    torch.manual_seed(0)
    x = torch.randn(100, 30).relu()
    layer = compressed(f"dorefa-activations{bits}", nn.Linear(30, 4), x)
    reach, x = float((layer if bits == 8 else layer[1]).high), x.numpy()

    def lost(r):
        return np.square(x - r * quantiser(bits, np.clip(x / r, 0, 1))).sum()
    assert lost(reach) <= min(lost(x.max() * i / 64) for i in range(1, 65)) * (1 + 1e-4)


def test_gradients_of_inputs_stop_at_the_clip():
    layer = dense("dorefa-weights2")
    reach = float(layer[1].high)
    x = torch.tensor([-0.1, 0.5 * reach, 1.1 * reach])[:, None].repeat(1, 40).requires_grad_(True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[1], layer[2].realised().sum(0))
    assert not x.grad[0].any() and not x.grad[2].any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_weights_get_the_gradient_of_tanh_and_of_its_maximum(bits):
    """The rounding's is one; for one bit the mean magnitude passes none."""
    layer, x, upstream = dense(f"dorefa-weights{bits}-activations8"), torch.rand(7, 40), torch.randn(7, 6)
    layer(x).backward(upstream)
    weight = layer.layer.weight.detach().clone().requires_grad_()
    rule = weight if bits == 1 else 2 * (weight.tanh() / (2 * weight.tanh().abs().max()) + 0.5) - 1
    wanted = layer.wanted()
    seen = torch.fake_quantize_per_tensor_affine(x, wanted.scale, wanted.zero_point, 0, 255)
    (seen @ (rule * layer.factor[:, None]).t()).backward(upstream)
    torch.testing.assert_close(layer.layer.weight.grad, weight.grad)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_the_gradient_quantiser_is_unbiased_and_without_noise_it_is_not(bits):
    """Within three standard deviations over 100,000 draws; a standard deviation is at most half a level."""
    torch.manual_seed(0)
    gradient, draws = torch.tensor([[0.013, -0.3, 0.71, 1.0, -0.052]]), 100_000
    many = gradient.expand(draws, -1)
    out = quantised_gradient(many, bits, torch.rand(draws, 5) - 0.5)
    deviation = out.std(0) / draws**0.5
    assert bool(((out.mean(0) - gradient[0]).abs() <= 3 * deviation + 1e-6).all())
    plain = quantised_gradient(gradient, bits, torch.zeros(1, 5))[0]
    assert bool(((plain - gradient[0]).abs() > 3 * deviation + 1e-6)[:3].all())


def test_gradients_take_levels_of_the_largest_of_their_own_sample():
    torch.manual_seed(0)
    gradient = torch.randn(8, 3, 5, 5) * torch.logspace(-6, 3, 8).view(-1, 1, 1, 1)
    gradient[4] = 0
    noise = torch.rand(8, 3, 5, 5) - 0.5
    out = quantised_gradient(gradient, 4, noise).double().numpy()
    most = np.abs(gradient.double().numpy()).max((1, 2, 3), keepdims=True)
    scaled = np.divide(gradient.double().numpy(), 2 * most, where=most > 0, out=np.zeros(gradient.shape))
    expected = 2 * most * (quantiser(4, scaled + 0.5 + noise.double().numpy() / 15) - 0.5)
    assert (np.abs(out - expected) > 1e-4 * most + 1e-12).mean() < 0.002, "halves may go either way"
    assert not out[4].any()


def test_the_outputs_gradient_is_quantised_on_its_way_back():
    layer, x, upstream = dense("dorefa-weights2-activations8-gradients4"), torch.rand(7, 40), torch.randn(7, 6)
    torch.manual_seed(5)
    layer(x).backward(upstream)
    torch.manual_seed(5)
    seen = quantised_gradient(upstream, 4, torch.rand(7, 6) - 0.5)
    torch.testing.assert_close(layer.layer.bias.grad, seen.sum(0))
    assert not torch.allclose(layer.layer.bias.grad, upstream.sum(0))


@pytest.mark.parametrize("activations", [1, 2, 4, 8])
@pytest.mark.parametrize("weights", range(1, 7))
def test_a_layer_deploys_to_the_integers_of_its_codes(weights, activations):
    """Whole-number sums of levels and codes, and one product; the bias is rounded to whole steps of 255 levels."""
    layer, x = dense(f"dorefa-weights{weights}-activations{activations}"), 1.2 * torch.rand(9, 40)
    frozen = freeze(nn.Sequential(layer))
    inner = layer if activations == 8 else layer[2]
    weight, reach, factor = inner.layer.weight.detach().numpy(), float(inner.high), inner.factor.double().numpy()
    unit = np.abs(weight).mean(dtype="float64") if weights == 1 else 1 / (2**weights - 1)
    codes = np.rint(weight_rule(weights, weight) / unit).astype("int64")
    levels = np.rint((2**activations - 1) * np.clip(x.numpy() / np.float32(reach), 0, 1)).astype("int64")
    sums = levels @ codes.T * (255 // (2**activations - 1))
    steps = factor * unit * reach / 255
    expected = (sums + np.rint(inner.layer.bias.detach().numpy() / steps)) * steps
    np.testing.assert_allclose(frozen(x).detach().numpy(), expected, rtol=2e-6, atol=2e-6)
    stored = [tensor.nbytes for name, tensor in frozen.state_dict().items() if "weight" in name]
    assert stored == [6 * -(-40 * (1 if weights == 1 else weights + 1) // 8)]


@pytest.mark.parametrize("weights", [1, 3])
@pytest.mark.parametrize("layer, shape", [(nn.Conv2d(8, 12, 3, 2, 2, 2, groups=4, bias=False), (9, 8, 11, 13)),
                                          (nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8), (9, 8, 7, 5))])
def test_a_convolution_deploys_to_what_was_trained(weights, layer, shape):
    torch.manual_seed(1)
    x = torch.randn(shape).relu()
    kept = nn.Conv2d(8, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups,
                     layer.bias is not None)
    pair = compressed(f"dorefa-weights{weights}", kept, x).eval()
    expected = pair(x).detach()
    torch.testing.assert_close(freeze(nn.Sequential(pair))(x), expected, rtol=1e-5, atol=0.01 * float(expected.abs().max()))


def test_layers_of_eight_bit_activations_hand_integers_to_each_other():
    torch.manual_seed(0)
    x = torch.rand(6, 3, 9, 9)
    first = compressed("dorefa-weights3-activations8", nn.Conv2d(3, 8, 3), x)
    second = compressed("dorefa-weights2-activations8", nn.Conv2d(8, 5, 3), first.eval()(x).relu().detach())
    network = nn.Sequential(first, nn.ReLU(), second)
    frozen = freeze(network)
    called = [str(node.target).split(".")[1] for node in frozen.graph.nodes if node.op == "call_function"]
    assert [name for name in called if not name.startswith("unpack")] == ["quantize", "int8_conv2d", "int8_conv2d"]
    expected = network.eval()(x).detach()
    torch.testing.assert_close(frozen(x), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_norms_come_back_and_a_trained_network_deploys_to_what_it_computed(warm):
    graph, x = trained(positive("dorefa-weights2-activations4", warm)), torch.randn(32, *SHAPE)
    assert {"layers.1.depthwise_renorm", "layers.1.project_renorm"} <= set(norms(graph))
    norm = graph.get_submodule("layers.1.depthwise_renorm")
    norm.weight.data[:3] *= -1
    with torch.no_grad():
        expected = graph(x)
    torch.testing.assert_close(freeze(graph)(x), expected, rtol=0, atol=0.03 * float(expected.abs().max()))


def positive(token: str, warm):
    """A network whose layers behind rectifiers are compressed."""
    from spaces.build import build
    from spaces.candidate import Candidate
    from spaces.compress import prepare

    torch.manual_seed(0)
    candidate = Candidate.parse(f"conv:8/1 mbconv-expand2:8/1 [depthwise={token} project={token}] classifier:5/1")
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    return prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(8, *SHAPE)), warm(SHAPE))


def test_a_channel_of_zeros_gives_its_bias_and_a_convolution_takes_a_norm_up():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 6, 3), torch.rand(5, 4, 8, 8)
    layer.weight.data[2] = 0
    pair = compressed("dorefa", layer, x)
    torch.testing.assert_close(freeze(nn.Sequential(pair))(x)[:, 2], layer.bias[2].detach().expand(5, 6, 6), rtol=0, atol=1e-3)
    assert takes_up(pair) and not takes_up(dense("dorefa"))


def test_layers_that_codes_cannot_stand_for_are_refused():
    x = torch.rand(10, 8)
    with pytest.raises(SpaceError, match="the inputs reach from -.* take it behind a rectifier"):
        compressed("dorefa", nn.Linear(8, 4), x - 0.5)
    with pytest.raises(SpaceError, match="the inputs reach from 0 to 0"):
        compressed("dorefa", nn.Linear(8, 4), 0 * x)
    with pytest.raises(SpaceError, match="masked or share"):
        compressed("dorefa", parse("compression", "magnitude").prepare(nn.Linear(8, 4)), x)
    layer = nn.Linear(8, 4)
    nn.init.zeros_(layer.weight)
    with pytest.raises(SpaceError, match="all weights are zero"):
        compressed("dorefa", layer, x)


@pytest.mark.parametrize("weights", [1, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_layer(weights, value):
    layer = dense(f"dorefa-weights{weights}-activations8")
    layer.layer.weight.data[1, 2] = value
    with pytest.raises(SpaceError, match="^0: dorefa: the weights of channel . have scale (nan|inf)"):
        freeze(nn.Sequential(layer))


@pytest.mark.parametrize("token", ["dorefa-weights8", "dorefa-activations3", "dorefa-gradients1"])
def test_bits_that_have_no_exact_form_are_refused(token):
    with pytest.raises(SpaceError):
        parse("compression", token)
