"""BinaryConnect: binary weights forward and backward, clipped real ones behind, one bit a weight when frozen."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.recipe import Run


def layer_of(token: str, weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.clone()
    return parse("compression", token).prepare(layer)


def latent(layer: nn.Linear) -> nn.Parameter:
    return layer.parametrizations.weight.original


@pytest.mark.parametrize("mode", ["deterministic", "stochastic"])
def test_in_eval_mode_weights_are_the_signs_times_the_mean_magnitude(mode):
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    weight[3, 4] = 0
    layer = layer_of("binary_connect" + "-mode_stochastic" * (mode == "stochastic"), weight).eval()
    expected = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
    torch.testing.assert_close(layer.weight, expected)


def test_stochastic_weights_are_binary_and_their_mean_is_the_clipped_weight():
    """Within three standard deviations of the mean of 20,000 draws, all 40 weights together and each within five."""
    torch.manual_seed(0)
    layer, draws = layer_of("binary_connect-mode_stochastic", torch.linspace(-2, 2, 40).view(1, 40)).train(), 20_000
    reach = layer.parametrizations.weight[0].reach
    units = latent(layer).detach() / reach
    with torch.no_grad():
        signs = torch.stack([layer.weight / reach for _ in range(draws)])
    mean = units.clamp(-1, 1)
    deviation = ((1 - mean**2) / draws).sqrt()
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert bool(((signs.mean(0) - mean).abs() <= 5 * deviation + 1e-6).all())
    assert abs(float((signs.mean(0) - mean).sum())) < 3 * float(deviation.square().sum().sqrt())


@pytest.mark.parametrize("token", ["binary_connect", "binary_connect-mode_stochastic"])
def test_inputs_see_the_binary_weights_and_the_real_ones_get_their_gradient_unchanged(token):
    """Also beyond the clip: the gradient of a sign's weights is not gated."""
    layer = layer_of(token, torch.randn(5, 12)).train()
    x, upstream = torch.randn(7, 12, requires_grad=True), torch.randn(7, 5)
    torch.manual_seed(3)
    layer(x).backward(upstream)
    torch.manual_seed(3)
    binary = layer.weight.detach()
    torch.testing.assert_close(latent(layer).grad, upstream.t() @ x.detach())
    torch.testing.assert_close(x.grad, upstream @ binary)


@pytest.mark.parametrize("token", ["binary_connect", "binary_connect-mode_stochastic"])
def test_each_step_ends_with_the_real_weights_clipped(token):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), parse("compression", token).prepare(nn.Conv2d(4, 6, 3)))
    levels = network[1][0].parametrizations.weight[0]
    hooks = levels.hooks(Run(network, None, None, 1, 3))
    weight = network[1][0].parametrizations.weight.original
    before = weight.detach() + 3 * torch.randn_like(weight)
    weight.data = before.clone()
    hooks.on_step(0)
    torch.testing.assert_close(weight.detach(), before.clamp(-float(levels.reach), float(levels.reach)))
    assert bool((weight != before).any())


def test_the_file_of_a_layer_is_less_than_a_thirty_first(tmp_path):
    """With the bias and the header left out of neither; a layer of 1024 inputs, since biases stay floats."""
    torch.manual_seed(0)
    layer = nn.Linear(1024, 1024)
    dense = sum(p.nbytes for p in layer.parameters())
    state = freeze(nn.Sequential(parse("compression", "binary_connect").prepare(layer))).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    data = (tmp_path / "weights.safetensors").read_bytes()
    payload = len(data) - 8 - int.from_bytes(data[:8], "little")
    assert payload == sum(tensor.nbytes for tensor in state.values()) == 1024 * 1024 // 8 + 2 * 4 + 4 * 1024
    assert payload <= dense / 31 and math.ceil(dense / payload) == 32


def test_masked_weights_are_refused():
    with pytest.raises(SpaceError, match="masked, and a sign is never zero; take ttq"):
        parse("compression", "binary_connect").prepare(parse("compression", "magnitude").prepare(nn.Linear(16, 4)))
