"""Weights that all candidates of a space share: each takes tensors of its own shapes, and a channel is the same one in each."""

import random
from pathlib import Path

import pytest
import torch

from search.study_file import load
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import SpaceError
from spaces.places import placed_layers, places
from spaces.sharing import Part, Sharing
from spaces.space import Space

IMAGE = (3, 16, 16)
MIXED = [{"width": [8, 12], "blocks": [{"name": "conv", "kernel": [3, 5]}]},
         {"layers": [1, 2, 3], "width": [8, 12, 16],
          "blocks": [{"name": "fire", "share": [0.25, 0.5], "norm": "batch", "bypass": ["none", "complex"]},
                     {"name": "mbconv", "expand": [1, 2], "kernel": [3, 5], "se": [0.0, 0.25]}, {"name": "skip"}]},
         {"width": [16, 24], "stride": [1, 2], "blocks": [{"name": "depthwise_separable"}, {"name": "fire"}]}]


def space_of(name: str) -> Space:
    """A space of `studies`, or the mixed one."""
    if name == "mixed":
        return Space.from_tables(MIXED, {}, {}, [], 5)
    study = load(Path("studies") / name)
    return Space.from_tables(study.space.stages, study.space.head, study.space.compression, study.space.recipes, 10)


@pytest.fixture(scope="module", params=["mixed", "cifar10.toml"])
def sharing(request):
    return Sharing(space_of(request.param), IMAGE)


def drawn(space: Space, seed: int) -> tuple[Candidate, torch.nn.Module]:
    """A random candidate that can be built."""
    pick = random.Random(seed)
    for _ in range(50):
        candidate = space.sample(lambda name, options: pick.choice(options))
        try:
            return candidate, build(candidate, IMAGE)
        except SpaceError:
            continue
    raise AssertionError("no candidate can be built")


def test_every_candidate_takes_a_part_of_its_own_shape_for_each_parameter(sharing):
    for seed in range(20):
        candidate, network = drawn(sharing.space, seed)
        parts, shapes = sharing.parts(candidate), {name: p.shape for name, p in network.named_parameters()}
        assert {name: part.of(torch.empty(sharing.shapes[part.key])).shape for name, part in parts.items()} == shapes, candidate


def test_places_are_those_of_the_space_in_order_and_other_candidates_have_none(sharing):
    candidate, _ = drawn(sharing.space, 1)
    found = placed_layers(places(sharing.space), candidate)
    assert found[-1] == "head" and list(found[:-1]) == sorted(found[:-1]) and found[0] == "stage0.0"
    with pytest.raises(SpaceError, match="no candidate of this space"):
        placed_layers(places(sharing.space), Candidate.parse("conv-kernel7:999/1 classifier:10/1"))


def shared(sharing: Sharing) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator, requires_grad=True) for key, shape in sharing.shapes.items()}


def read_columns(sharing: Sharing, text: str, silent: tuple[str, int]) -> set[int]:
    """Which columns of the shared classifier get a gradient in a candidate whose shared filter `silent` (key and row) is zero, its
    bias with it."""
    candidate, weights = Candidate.parse(text), shared(sharing)
    (key, row), parts = silent, sharing.parts(candidate)
    with torch.no_grad():
        for name in (key, key.replace(".weight", ".bias")):
            if name in weights:
                weights[name][row] = 0
    network = build(candidate, IMAGE).eval()
    values = {name: part.of(weights[part.key]) for name, part in parts.items()}
    torch.func.functional_call(network, values, (torch.rand(1, *IMAGE),)).sum().backward()
    gradient = weights["head classifier dense.weight"].grad.abs().sum(0)
    return set(gradient.nonzero().flatten().tolist())


@pytest.mark.parametrize("path", ["expand1x1", "expand3x3"])
@pytest.mark.parametrize("row", [0, 3])
def test_a_filter_of_a_concatenation_is_read_by_the_same_column_whatever_the_width(path, row):
    sharing = Sharing(space_of("mixed"), IMAGE)
    silent, columns = (f"stage2.0 fire {path}.weight", row), []
    for width in (16, 24):
        text = f"conv:8/1 mbconv-expand2:8/1 fire:{width}/1 classifier:5/1"
        whole, without = (read_columns(sharing, text, filtered) for filtered in (("", 0), silent))
        columns.append(whole - without)
        assert len(whole) == width
    assert columns[0] == columns[1] and len(columns[0]) == 1


def test_a_projection_into_a_sum_takes_the_channels_of_what_it_is_added_to():
    sharing = Sharing(space_of("mixed"), IMAGE)
    parts = sharing.parts(Candidate.parse("conv:8/1 fire-share0.5-norm_batch:16/1 mbconv-expand2:16/1 depthwise_separable:16/1 classifier:5/1"))
    concatenated = parts["layers.2.expand.weight"].dims[1]
    assert concatenated != tuple(range(16)) and parts["layers.2.project.weight"].dims[0] == concatenated
    assert parts["layers.3.depthwise.weight"].dims[0] == concatenated


def test_a_smaller_kernel_is_the_middle_of_a_larger_one():
    weight = torch.arange(25.0).view(1, 1, 5, 5)
    torch.testing.assert_close(Part("", ((0,), (0,), 3, 3)).of(weight), weight[:, :, 1:4, 1:4])
