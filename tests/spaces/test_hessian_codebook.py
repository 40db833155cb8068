"""Codebooks weighed by curvature: against scikit-learn's k-means, numeric optima, brute force and the entropy."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.cluster import KMeans
from torch import nn

import spaces.ops
from spaces.build import build
from spaces.candidate import Candidate
from spaces.clusters import clusters, nearest
from spaces.compress import coded, prepare
from spaces.compression.hessian_codebook import entropy_constrained
from spaces.freeze import freeze
from spaces.gene import SpaceError, parse
from spaces.huffman import encode, stored_bytes
from spaces.prepared import stored_form
from spaces.site import Calibration, Site
from spaces.trace import trace

spaces.ops.register_all()
MULTIPLIERS = (0.001, 0.01, 0.03, 0.1, 0.3)


def drawn(seed: int, size: int):
    """Weights as they lie in trained layers, about zero with long tails, and curvatures over some powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (size,), generator=generator) * 2.0 - 1
    weights = torch.empty(size).exponential_(generator=generator) * signs
    return weights, torch.empty(size).log_normal_(0, 1.5, generator=generator)


def site(network: nn.Module, path: str, images: torch.Tensor, labels: torch.Tensor | None = None) -> Site:
    calibration = Calibration.unlabelled(images) if labels is None else Calibration(images, labels)
    return Site(network.get_submodule(path), path, trace(network), calibration)


def entropy(codes: torch.Tensor) -> float:
    """Bits a code (Shannon, 1948)."""
    p = codes.bincount().double() / len(codes)
    return float(-(p[p > 0] * p[p > 0].log2()).sum())


def distortion(weights, curvature, quantised) -> float:
    return float((curvature.double() * (weights - quantised).double() ** 2).mean())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_clusters_are_those_of_scikit_learn_of_the_same_start(seed, count, weighted):
    generator = torch.Generator().manual_seed(seed)
    values, curvature = torch.rand(600, generator=generator), torch.rand(600, generator=generator) * (torch.arange(600) % 3 > 0)
    start = torch.linspace(float(values.min()), float(values.max()), count)
    peer = KMeans(count, init=start[:, None].double().numpy(), n_init=1, max_iter=1000, tol=0)
    peer.fit(values[:, None].double().numpy(), sample_weight=curvature.double().numpy() if weighted else None)
    found = clusters(values, count, curvature if weighted else torch.full_like(values, 3.0))
    np.testing.assert_allclose(found, np.sort(peer.cluster_centers_[:, 0]), rtol=1e-5)


@given(seed=st.integers(0, 2**31), size=st.integers(2, 300), count=st.sampled_from([2, 4, 16]), share=st.sampled_from([0.0, 0.02, 0.5]))
@settings(max_examples=50, deadline=None)
def test_values_without_curvature_divide_nothing_by_zero(seed, size, count, share):
    values, curvature = drawn(seed, size)
    curvature *= torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
    centroids = clusters(values, count, curvature)
    assert bool(torch.isfinite(centroids).all()) and bool((centroids.diff() >= 0).all())
    if not curvature.any():
        torch.testing.assert_close(centroids, clusters(values, count))
    table, codes = entropy_constrained(values, curvature, nearest(values, centroids), 0.1)
    assert bool(torch.isfinite(table).all()) and len(codes.unique()) == len(table)


@pytest.mark.parametrize("token", ["hessian_codebook-bits2", "hessian_codebook-bits3-multiplier0.0001"])
@pytest.mark.parametrize("layer", [nn.Linear(30, 20), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)])
def test_a_centroid_is_where_a_numeric_search_finds_the_least_weighted_error(token, layer):
    torch.manual_seed(0)
    layer, images = copy.deepcopy(layer), torch.randn(40, *((30,) if isinstance(layer, nn.Linear) else (4, 7, 7)))
    layer.reset_parameters()
    at = site(nn.Sequential(layer, nn.Flatten()), "0", images)
    weight, curvature = layer.weight.detach().double(), at.curvature.double()
    quantised = parse("compression", token).prepare_at(at).weight.detach()
    assert 2 <= len(quantised.unique()) <= 8
    for centroid in quantised.unique():
        w, h = weight[quantised == centroid].numpy(), curvature[quantised == centroid].numpy()
        best = minimize_scalar(lambda c: float((h * (w - c) ** 2).sum() / h.sum()), bounds=(-1, 1), method="bounded",
                               options={"xatol": 1e-9})
        assert float(centroid) == pytest.approx(best.x, abs=1e-5)


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_entropy_constraint_ends_where_no_value_gains_by_moving_and_costs_no_more_than_its_start(multiplier):
    values, curvature = drawn(1, 2000)
    centroids = clusters(values, 32, curvature)
    start = nearest(values, centroids)
    table, codes = entropy_constrained(values, curvature, start, multiplier)
    p = codes.bincount(minlength=len(table)).double() / len(codes)
    costs = curvature[:, None] * (values[:, None].double() - table.double()) ** 2 - multiplier * p.log2()
    torch.testing.assert_close(costs.gather(1, codes[:, None])[:, 0], costs.min(1).values)
    assert (p > 0).all() and len(table) <= 32
    begun = distortion(values, curvature, centroids[start]) + multiplier * entropy(start)
    assert distortion(values, curvature, table[codes]) + multiplier * entropy(codes) < begun


@pytest.mark.parametrize("seed", range(3))
def test_entropy_constrained_codes_have_less_entropy_than_those_of_k_means_at_the_same_error(seed):
    values, curvature = drawn(seed, 8000)
    counts, plain = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64), []
    for count in counts:
        centroids = clusters(values, count, curvature)
        codes = nearest(values, centroids)
        plain.append((np.log(distortion(values, curvature, centroids[codes])), entropy(codes)))
    errors, bits = zip(*sorted(plain))
    start = nearest(values, clusters(values, 64, curvature))
    for multiplier in MULTIPLIERS:
        table, codes = entropy_constrained(values, curvature, start, multiplier)
        error = np.log(distortion(values, curvature, table[codes]))
        assert errors[0] < error < errors[-1]
        assert entropy(codes) <= np.interp(error, errors, bits)


@pytest.mark.parametrize("token", ["hessian_codebook", "hessian_codebook-bits6-multiplier0.0001", "hessian_codebook-bits1"])
@pytest.mark.parametrize("earlier", [None, "magnitude-keep0.3"])
def test_what_is_stored_gives_the_weights_bit_for_bit_and_huffman_codes_come_within_a_bit_of_the_entropy(token, earlier):
    torch.manual_seed(0)
    layer = nn.Linear(120, 100)
    layer = parse("compression", earlier).prepare(layer) if earlier else layer
    kept = layer.weight.detach().flatten() != 0
    layer = parse("compression", token).prepare_at(site(nn.Sequential(layer), "0", torch.randn(30, 120)))
    form = stored_form(layer, layer.weight.detach())
    assert torch.equal(unpacked(form), layer.weight) and torch.equal(layer.weight.flatten() != 0, kept)
    codes = layer.parametrizations.weight[0].codes.flatten()[kept]
    stored = (form.arguments["values"] if earlier else form).arguments["codes"]
    assert 8 * encode(stored.numpy()).stored_bytes / len(codes) < entropy(codes) + 1


def unpacked(form):
    """What the deployed ops give of a packed tensor."""
    values = [unpacked(value) if hasattr(value, "op") else value for value in form.arguments.values()]
    return getattr(torch.ops.netwright, form.op)(*values)


def test_a_whole_chain_is_pruned_quantised_and_coded_and_stores_less_at_each_step(warm):
    shape, sizes = (3, 12, 12), []
    for chain in ("none", "obd-keep0.5", "obd-keep0.5+hessian_codebook-bits6", "obd-keep0.5+hessian_codebook-bits6+huffman",
                  "obd-keep0.5+hessian_codebook-bits6-multiplier0.000001+huffman"):
        torch.manual_seed(0)
        candidate = Candidate.parse(f"conv:16/2 conv:32/1 [conv={chain}] classifier:5/1")
        network = build(candidate, shape)
        warm(shape)(network)
        state = freeze(prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(40, *shape)), warm(shape))).state_dict()
        sizes.append(sum(stored_bytes({name: tensor.numpy() for name, tensor in state.items()}, coded(candidate.chains)).values()))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)


def test_where_no_image_shows_curvature_k_means_is_plain_and_a_price_of_bits_is_refused():
    network, at = nn.Sequential(nn.Linear(20, 10)), torch.zeros(4, 20)
    expected = parse("compression", "codebook-bits2").prepare(copy.deepcopy(network[0])).weight
    with pytest.raises(SpaceError, match="no calibration image shows any curvature"):
        parse("compression", "hessian_codebook-multiplier0.1").prepare_at(site(network, "0", at))
    torch.testing.assert_close(parse("compression", "hessian_codebook-bits2").prepare_at(site(network, "0", at)).weight, expected)


def test_a_curvature_that_is_not_finite_is_named():
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].weight.data.fill_(1e30)
    with pytest.raises(SpaceError, match="hessian_codebook: the curvature is not finite"):
        parse("compression", "hessian_codebook").prepare_at(site(network, "0", torch.full((2, 4), 1e20)))


def test_sizes_are_known_before_training_unless_entropy_is_paid_for():
    assert parse("compression", "hessian_codebook").shapes_fixed
    assert not parse("compression", "hessian_codebook-multiplier0.00001").shapes_fixed
