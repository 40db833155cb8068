"""Codebooks: k-means, the gradient of what is shared, and what is stored."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spaces.ops
from spaces.clusters import clusters
from spaces.codebook import mask_of
from spaces.gene import SpaceError, parse
from spaces.prepared import stored_form

spaces.ops.register_all()


@pytest.mark.parametrize("codes, table, bits, shape, message", [
    (1, (1, 5, 1), 2, [4], "at most 2\\^bits entries"), (1, (4,), 2, [4], "it must be \\[tables"),
    (3, (3, 4, 2), 2, [4, 10], "3 tables; weights \\[4, 10\\] take 1 or 5"),
    (2, (1, 4, 1), 2, [4], "take uint8 \\[1\\]")])
def test_codes_and_table_that_do_not_fit_are_named(codes, table, bits, shape, message):
    with pytest.raises(ValueError, match=message):
        torch.ops.netwright.unpack_codebook(torch.zeros(codes, dtype=torch.uint8), torch.zeros(table), bits, shape)


@given(seed=st.integers(0, 2**31), size=st.integers(2, 400), count=st.sampled_from([2, 4, 8, 16]))
@settings(max_examples=50, deadline=None)
def test_clusters_leave_every_value_with_its_nearest_centroid_which_is_their_mean(seed, size, count):
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    centroids = clusters(values, count)
    assert len(centroids) == min(count, len(values.unique())) and bool((centroids.diff() > 0).all())
    nearest = (values[:, None] - centroids).abs().argmin(1)
    for number, centroid in enumerate(centroids):
        torch.testing.assert_close(values[nearest == number].mean(), centroid, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_centroid_is_the_sum_over_its_weights():
    """[12], section 3.3."""
    torch.manual_seed(0)
    layer, x = parse("compression", "codebook-bits2").prepare(torch.nn.Linear(30, 20)), torch.randn(7, 30)
    free = layer.weight.detach().clone().requires_grad_(True)
    (torch.nn.functional.linear(x, free, layer.bias)).square().sum().backward()
    layer(x).square().sum().backward()
    table = layer.parametrizations.weight.original
    for number, value in enumerate(table.detach().flatten()):
        torch.testing.assert_close(table.grad.flatten()[number], free.grad[free == value].sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("token", ["codebook", "codebook-bits1", "codebook-bits8", "product_quantised-segment4",
                                   "product_quantised-bits3-tables_segments", "hashed"])
@pytest.mark.parametrize("layer", [torch.nn.Linear(37, 50), torch.nn.Conv2d(9, 30, 3), torch.nn.Conv2d(60, 30, 1)])
def test_what_is_stored_gives_the_weights_bit_for_bit(token, layer):
    layer = parse("compression", token).prepare(type(layer)(*(layer.weight.shape[i] for i in (1, 0)), *layer.weight.shape[2:3]))
    form = stored_form(layer, layer.weight.detach())
    out = getattr(torch.ops.netwright, form.op)(*form.arguments.values())
    assert torch.equal(out, layer.weight) and form.stored_bytes < layer.weight.nbytes


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_a_scalar_codebook_stores_its_bits_a_weight_and_its_values(bits):
    layer = parse("compression", f"codebook-bits{bits}").prepare(torch.nn.Conv2d(32, 64, 3))
    assert stored_form(layer, layer.weight.detach()).stored_bytes == 32 * 64 * 9 * bits // 8 + 4 * 2**bits


@pytest.mark.parametrize("segment, tables", [(2, "layer"), (4, "segments")])
def test_product_quantisation_stores_its_bits_a_sub_vector_and_its_tables(segment, tables):
    """[33]: outputs * inputs / segment * log2(entries) bits and the codebooks."""
    layer = parse("compression", f"product_quantised-segment{segment}-bits3-tables_{tables}").prepare(torch.nn.Linear(64, 96))
    count = 64 // segment if tables == "segments" else 1
    assert stored_form(layer, layer.weight.detach()).stored_bytes == 96 * 64 // segment * 3 // 8 + 4 * count * 8 * segment


def test_product_quantisation_errs_less_with_more_vectors():
    torch.manual_seed(0)
    weight, errors = torch.randn(96, 64), []
    for bits in (1, 3, 5, 8):
        layer = torch.nn.Linear(64, 96)
        layer.weight.data.copy_(weight)
        layer = parse("compression", f"product_quantised-bits{bits}").prepare(layer)
        errors.append(float((layer.weight - weight).detach().norm()))
    assert errors == sorted(errors, reverse=True)


def test_after_magnitude_only_kept_weights_share_values_and_removed_ones_stay_zero():
    torch.manual_seed(0)
    layer = parse("compression", "magnitude-keep0.25").prepare(torch.nn.Linear(64, 80))
    kept = layer.weight.detach() != 0
    layer = parse("compression", "codebook-bits3").prepare(layer)
    optimiser = torch.optim.SGD(layer.parameters(), 0.01)
    for _ in range(3):
        layer(torch.randn(8, 64)).square().mean().backward()
        optimiser.step()
    assert torch.equal(layer.weight != 0, kept) and len(layer.weight.detach()[kept].unique()) == 8
    form = stored_form(layer, layer.weight.detach())
    assert form.op == "unpack_bitmap" and form.arguments["values"].op == "unpack_codebook"
    assert form.stored_bytes == 64 * 80 // 8 + 64 * 80 // 4 * 3 // 8 + 4 * 8


def test_centroids_that_training_brings_to_zero_do_not_change_what_is_kept():
    layer = parse("compression", "codebook-bits1").prepare(parse("compression", "magnitude").prepare(torch.nn.Linear(64, 80)))
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 0, 0] = 0
    form = stored_form(layer, layer.weight.detach())
    assert len(mask_of(layer).nonzero()) == form.arguments["values"].arguments["shape"][0]


@pytest.mark.parametrize("earlier, token, message", [
    ("magnitude", "product_quantised", "product_quantised cannot follow magnitude"),
    ("magnitude", "hashed", "hashed: weights are removed or share numbers already"),
    ("circulant-block4", "hashed", "hashed: weights are removed or share numbers already")])
def test_sharing_that_mixes_what_an_earlier_method_made_is_refused(earlier, token, message):
    layer = parse("compression", earlier).prepare(torch.nn.Linear(20, 10))
    with pytest.raises(SpaceError, match=message):
        parse("compression", token).prepare(layer)
