"""Batch norms come back behind compressed layers, correct what compression did to their channels, and are gone when frozen."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze
from spaces.gene import parse
from spaces.norms import fold_norms, norms_of, put_back, takes_up, taken_up
from spaces.site import Calibration
from spaces.trace import trace
from spaces.zoo import settled

SHAPE = (3, 12, 12)
NETWORK = ("conv:8/1 [*={0}] mbconv-expand2:8/1 [expand={0} project={0}] fire-norm_batch:16/2 [squeeze={0} expand3x3={0}]"
           " classifier:5/1")
CHAINS = ["none", "int8", "magnitude-keep0.4", "magnitude-keep0.4+int8", "svd-rank4", "svd-rank4+int8", "intn-bits4", "codebook"]


def prepared(chain: str, warm):
    torch.manual_seed(0)
    candidate = Candidate.parse(NETWORK.format(chain))
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    return prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))


def trained(graph, rate: float = 0.1):
    """The network after some steps, so that norms and weights are no more as they came."""
    optimiser = torch.optim.SGD(graph.parameters(), rate)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        loss = nn.functional.cross_entropy(graph.train()(torch.randn(16, *SHAPE, generator=generator)),
                                           torch.randint(5, (16,), generator=generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return graph.eval()


def norms(graph) -> list[str]:
    return [name for name, module in graph.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_network_that_trained_with_norms_deploys_to_what_it_computed(chain, warm):
    graph, x = trained(prepared(chain, warm)), torch.randn(32, *SHAPE)
    assert norms(graph)
    with torch.no_grad():
        expected = graph(x)
    deployed = freeze(graph)
    tolerance = 0.03 if "int" in chain else 1e-4
    torch.testing.assert_close(deployed(x), expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    assert not norms(deployed) and len(norms(graph)) > 0


def test_a_norm_that_turns_signs_comes_back_as_one_that_changes_nothing():
    torch.manual_seed(0)
    network, x = build(Candidate.parse("conv:8/1 conv:8/2 classifier:5/1"), SHAPE), torch.randn(32, *SHAPE)
    with torch.no_grad():
        for norm in norms(network):
            network.get_submodule(norm).weight.copy_(torch.randn(8))
    with torch.no_grad():
        expected = settled(network, x)(x)
    graph = trace(network)
    behind = norms_of(graph)
    assert put_back(fold_norms(graph), behind)
    with torch.no_grad():
        found = settled(graph, x)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_weights_in_front_of_a_norm_that_came_back_are_as_large_as_they_were_and_as_when_folded_beside_each_other(warm):
    torch.manual_seed(0)
    network = build(Candidate.parse("conv:8/1 conv:6/2 classifier:5/1"), SHAPE)
    with torch.no_grad():
        for norm in norms(network):
            torch.nn.init.normal_(network.get_submodule(norm).weight)
    warm(SHAPE)(network)
    layers = [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    before = {path: network.get_submodule(path).weight.detach().clone() for path in layers}
    scales = {path: (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach() for path, norm in norms_of(trace(network)).items()}
    graph = prepare(network, {}, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))
    assert len(layers) == 2
    for path in layers:
        weight, folded = graph.get_submodule(path).weight.detach(), before[path] * scales[path].view(-1, 1, 1, 1)
        torch.testing.assert_close(weight, folded * (before[path].norm() / folded.norm()), rtol=1e-4, atol=1e-6)


def test_surgery_behind_a_norm_cuts_the_same_weights_after_it_came_back(warm):
    torch.manual_seed(0)
    candidate = Candidate.parse("conv:16/1 [*=surgery-keep0.3] conv:6/2 classifier:5/1")
    network = build(candidate, SHAPE)
    warm(SHAPE)(network)
    graph = prepare(network, candidate.chains, Calibration.unlabelled(torch.randn(2, *SHAPE)), warm(SHAPE))
    layer, = (part for part in graph.modules() if is_parametrized(part, "weight"))
    mask, = layer.parametrizations.weight
    before = mask.mask.clone()
    mask.update(layer.parametrizations.weight.original.detach())
    assert "renorm" in " ".join(norms(graph)) and torch.equal(mask.mask, before) and 0.2 < float(before.mean()) < 0.45


@pytest.mark.parametrize("method, comes", [("int8", True), ("magnitude-keep0.3", True), ("intn-bits3", True), ("pow2", False),
                                           ("ternary", False), ("codebook", False)])
def test_norms_are_only_where_scaled_channels_keep_the_weights_form(method, comes):
    assert takes_up(parse("compression", method).prepare(nn.Conv2d(8, 8, 3))) == comes


@pytest.mark.parametrize("method", ["int8", "intn-bits3"])
def test_taking_a_norm_up_changes_no_step_of_the_weights(method):
    torch.manual_seed(1)
    layer, norm = parse("compression", method).prepare(nn.Conv2d(16, 32, 3)), nn.BatchNorm2d(32).eval()
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.running_var, 0.1, 9)
    after = taken_up(layer, norm)
    steps, scaled = (torch.round(x.layer.weight / x.weight_scale().view(-1, 1, 1, 1)) for x in (layer, after))
    assert torch.equal(scaled, steps * norm.weight.sign().view(-1, 1, 1, 1))


@pytest.mark.parametrize("affine", [True, False])
def test_a_convolution_takes_up_any_norm(affine):
    torch.manual_seed(2)
    layer, norm, x = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=affine), torch.randn(8, 4, 9, 9)
    norm(layer(x))
    torch.testing.assert_close(taken_up(layer, norm)(x), norm.eval()(layer(x)), rtol=1e-5, atol=1e-5)


def test_channels_have_the_mean_and_deviation_that_they_had_before_pruning(warm):
    """Behind a layer that lost 90% of its weights, in the channels that have any left."""
    seen = {}
    graph = prepared("magnitude-keep0.1", warm)
    left = graph.get_submodule("layers.1.expand").weight.flatten(1).any(1)
    graph.get_submodule("layers.1.expand_renorm").register_forward_hook(lambda module, inputs, out: seen.update(out=out))
    with torch.no_grad():
        graph.train()(torch.randn(64, *SHAPE))
    out = seen["out"].transpose(0, 1).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(16), rtol=0, atol=1e-3)
    assert int(left.sum()) > 4
    torch.testing.assert_close(out.std(1)[left], torch.ones(int(left.sum())), rtol=0.05, atol=0)
