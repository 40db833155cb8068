"""Structured weights: conversions against what makes them best, what is stored, and training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

import spaces.ops
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.tensor_train import balanced

spaces.ops.register_all()
OPS = torch.ops.netwright
TOKENS = ("circulant-block4", "kronecker-terms2", "tensor_train-rank3")


def converted(token: str, layer: nn.Module) -> nn.Module:
    """The layer after its one-shot conversion."""
    return parse("compression", token).prepare(layer)


@given(outputs=st.integers(1, 40), inputs=st.integers(1, 40), block=st.integers(2, 12), seed=st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_a_circulant_block_convolves_its_inputs_with_its_first_column(outputs, inputs, block, seed):
    """[63]: y = ifft(fft(r) fft(x)), summed over the blocks of a row."""
    rng = np.random.default_rng(seed)
    down, across = -(-outputs // block), -(-inputs // block)
    values, x = rng.standard_normal((down, across, block)).astype("float32"), rng.standard_normal(inputs)
    spectra = np.fft.fft(np.pad(x, (0, across * block - inputs)).reshape(across, block))
    expected = np.fft.ifft((np.fft.fft(values) * spectra).sum(1)).real.reshape(-1)[:outputs]
    weight = OPS.unpack_circulant(torch.from_numpy(values), [outputs, inputs])
    np.testing.assert_allclose(weight.double().numpy() @ x, expected, rtol=1e-4, atol=1e-5)


def test_ops_name_what_does_not_fit():
    with pytest.raises(ValueError, match=r"values is \[2, 2, 4\]; \[9, 8\] has 3 x 2 blocks of 4"):
        OPS.unpack_circulant(torch.zeros(2, 2, 4), [9, 8])
    with pytest.raises(ValueError, match=r"a matrix 6 x 6, not \[6, 7\]"):
        OPS.unpack_tensor_train(torch.zeros(30), [2, 3], [3, 2], [1], [6, 7])
    with pytest.raises(ValueError, match="cores has 30 numbers"):
        OPS.unpack_tensor_train(torch.zeros(30), [2, 3], [3, 2], [1], [6, 6])
    with pytest.raises(ValueError, match="as many outputs as inputs and one rank less"):
        OPS.unpack_tensor_train(torch.zeros(12), [2, 3], [3, 2], [], [6, 6])


@pytest.mark.parametrize("terms", [1, 3])
def test_a_sum_of_kronecker_products_is_the_nearest(terms):
    """Van Loan and Pitsianis: the error is the norm of the left-out singular values of the matrix of blocks."""
    torch.manual_seed(0)
    layer = nn.Linear(12, 20)
    weight = layer.weight.detach().numpy().astype(float)
    blocks = weight.reshape(5, 4, 4, 3).transpose(0, 2, 1, 3).reshape(20, 12)  # 5 x 4 blocks of 4 x 3
    left_out = np.linalg.svd(blocks)[1][terms:]
    error = converted(f"kronecker-terms{terms}", layer).weight.detach().numpy() - weight
    assert np.linalg.norm(error) == pytest.approx(np.linalg.norm(left_out), rel=1e-5)


def test_a_kronecker_product_is_found_exactly():
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 20, 1)
    layer.weight.data = torch.kron(torch.randn(5, 4), torch.randn(4, 3))[..., None, None]
    expected = layer.weight.detach().clone()
    torch.testing.assert_close(converted("kronecker", layer).weight, expected, rtol=1e-5, atol=1e-5)


def test_a_train_of_low_rank_is_found_exactly():
    torch.manual_seed(0)
    layer, ranks = nn.Linear(24, 60), [3, 2]
    cores = torch.randn(5 * 4 * 3 + 3 * 4 * 3 * 2 + 2 * 3 * 2)
    layer.weight.data = OPS.unpack_tensor_train(cores, [5, 4, 3], [4, 3, 2], ranks, [60, 24])
    expected = layer.weight.detach().clone()
    torch.testing.assert_close(converted("tensor_train-rank3", layer).weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 8), (13, 9)])
def test_circulant_blocks_are_the_nearest(shape):
    """The error is orthogonal to every circulant matrix: its sum along each turned diagonal is zero."""
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0])
    weight = layer.weight.detach().clone()
    error = (weight - converted("circulant-block4", layer).weight.detach()).numpy()
    whole = np.pad(error, [(0, -n % 4) for n in shape])
    for p, q, t in np.ndindex(whole.shape[0] // 4, whole.shape[1] // 4, 4):
        block = whole[4 * p:4 * p + 4, 4 * q:4 * q + 4]
        assert sum(block[(t + j) % 4, j] for j in range(4)) == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(error) > 0.1


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("layer", [nn.Linear(36, 48), nn.Conv2d(36, 48, 1)])
def test_training_moves_the_factors_alone_and_freezing_stores_them(token, layer):
    torch.manual_seed(0)
    network = nn.Sequential(converted(token, type(layer)(36, 48, *([1] if isinstance(layer, nn.Conv2d) else []))))
    x = torch.randn(8, 36, *([5, 5] if isinstance(layer, nn.Conv2d) else []))
    factors = [p for name, p in network.named_parameters() if "original" in name]
    before = [p.detach().clone() for p in factors]
    network(x).square().mean().backward()
    torch.optim.SGD(network.parameters(), 0.5).step()
    assert not any(torch.equal(now, then) for now, then in zip(factors, before))
    frozen = freeze(network)
    torch.testing.assert_close(frozen(x), network.eval()(x), rtol=1e-4, atol=1e-5)
    state = frozen.state_dict()
    assert sum(t.numel() for name, t in state.items() if "weight" in name) == sum(p.numel() for p in factors)
    assert state.keys() == load(save(state)).keys()
    assert all(torch.equal(load(save(state))[name], value) for name, value in state.items())


@pytest.mark.parametrize("token", ["kronecker-terms12", "tensor_train-rank64", "circulant-block64"])
def test_a_layer_stays_dense_where_the_factors_would_not_be_smaller(token):
    layer = nn.Linear(4, 6)
    assert converted(token, layer) is layer and isinstance(layer.weight, nn.Parameter)


def test_whole_blocks_stay_circulant_in_integers_and_others_are_stored_as_they_are():
    """Rows of a row of whole blocks hold the same numbers, so they have one scale; a cut block has others."""
    for inputs, stored in ((16, ["0.weight_values"]), (18, ["0.weight"])):
        torch.manual_seed(0)
        network = nn.Sequential(converted("int8", converted("circulant-block8", nn.Linear(inputs, 24))))
        network.train()(torch.randn(32, inputs))
        assert [name for name in freeze(network).state_dict() if "weight" in name] == stored
        x = torch.randn(32, inputs)
        torch.testing.assert_close(freeze(network)(x), network.eval()(x), rtol=1e-3, atol=2e-2)


def test_factors_are_balanced():
    assert [balanced(n, 2) for n in (256, 37, 12, 1000)] == [[16, 16], [37, 1], [4, 3], [40, 25]]
    assert [balanced(n, 3) for n in (64, 60, 10, 1)] == [[4, 4, 4], [5, 4, 3], [5, 2, 1], [1, 1, 1]]


@pytest.mark.parametrize("token", ["circulant-block1", "kronecker-terms0", "tensor_train-rank0", "tensor_train-dims1",
                                   "tensor_train-dims7"])
def test_values_that_mean_nothing_are_refused(token):
    with pytest.raises(SpaceError, match=token.split("-")[0]):
        parse("compression", token)


@pytest.mark.parametrize("mask", ["magnitude", "block_sparse"])
@pytest.mark.parametrize("sharing", TOKENS)
def test_zeros_among_weights_that_share_numbers_are_refused(sharing, mask):
    layer = converted(sharing, nn.Linear(64, 48))
    with pytest.raises(SpaceError, match=f"{mask}.*: the weights share numbers already"):
        parse("compression", mask).prepare(layer)


@pytest.mark.parametrize("mask", ["magnitude", "block_sparse"])
def test_factors_of_their_own_can_have_zeros(mask):
    for factor in converted("svd-rank4", nn.Linear(64, 48)):
        assert (parse("compression", mask).prepare(factor).weight == 0).any()
