"""Candidates and spaces: the text round-trips, equal networks are one candidate, mistakes are named."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.candidate import Candidate
from spaces.gene import SpaceError, load, names, parse
from spaces.space import Space
from tests.by_name import BLOCKS

STAGES = [
    {"layers": 1, "width": [8, 16], "blocks": [{"name": "conv", "kernel": [1, 3]}]},
    {"layers": [1, 2, 3], "width": [16, 24], "stride": [1, 2],
     "blocks": [{"name": "fire", "squeeze": [0.125, 0.25], "norm": "batch"}, {"name": "skip"},
                {"name": "mbconv", "kernel": [3, 5], "expand": [1, 3], "se": [0, 0.25]},
                {"name": "depthwise_separable"}]},
]
COMPRESSION = {"*": ["none", "int8", "magnitude-keep0.3+int8"], "squeeze": ["none", "l1_filters-keep0.5+int8"],
               "dense": ["none", "svd-rank4", "svd-energy0.9+int8"]}


def space(**changes) -> Space:
    """The tests' space, with other tables where given."""
    tables = {"stages": STAGES, "head": {}, "compression": COMPRESSION,
              "recipes": ["none", "soft_targets-t4"], "classes": 10}
    return Space.from_tables(**{**tables, **changes})


@given(seed=st.integers(0, 10**9))
@settings(max_examples=150, deadline=None)
def test_every_candidate_of_a_space_round_trips_through_text_and_json(seed):
    rng = random.Random(seed)
    candidate = space().sample(lambda name, options: rng.choice(options))
    assert Candidate.parse(str(candidate)) == candidate == Candidate.from_json(candidate.to_json())
    assert hash(Candidate.parse(str(candidate))) == hash(candidate)
    assert str(Candidate.parse(str(candidate))) == str(candidate)


def _usual(kind: str, name: str) -> str:
    """The gene's token: its name alone, or the first of its settings where something has to be said."""
    try:
        return parse(kind, name).token
    except SpaceError:
        return load(kind, name).SETTINGS[0]


@pytest.mark.parametrize("kind", ["blocks", "compression", "recipes"])
def test_every_gene_of_every_folder_has_a_source_a_summary_and_a_token_by_its_file(kind):
    for name in names(kind):
        gene = load(kind, name)
        assert gene.SOURCE and gene.__doc__.splitlines()[0].endswith((".", "stays."))
        if kind == "blocks" and name not in BLOCKS:
            continue
        token = _usual(kind, name)
        assert parse(kind, token).token == token and parse(kind, token).name == name


def test_a_token_spells_only_what_differs_from_the_default():
    assert str(parse("blocks", "mbconv-kernel3-expand6")) == "mbconv"
    assert str(parse("blocks", "mbconv-expand3-kernel5")) == "mbconv-kernel5-expand3"
    assert str(parse("compression", "magnitude-keep0.30")) == "magnitude-keep0.3"


def test_star_and_a_list_of_all_roles_are_one_candidate():
    star = Candidate.parse("fire:32/1 [*=int8] classifier:10/1")
    listed = Candidate.parse("fire:32/1 [expand3x3=int8 squeeze=int8 expand1x1=int8] classifier:10/1 []")
    assert star == listed and star.id == listed.id


def test_a_named_role_overrides_the_star():
    candidate = Candidate.parse("fire:32/1 [squeeze=none *=int8] classifier:10/1")
    assert str(candidate) == "fire:32/1 [expand1x1=int8 expand3x3=int8] classifier:10/1"


@pytest.mark.parametrize("text, words", [
    ("fyre:32/1 classifier:10/1", ["'fyre'", "fire", "mbconv"]),
    ("fire-squish2:32/1 classifier:10/1", ["squish2", "squeeze, share"]),
    ("fire-squeezebig:32/1 classifier:10/1", ["squeeze", "'big'", "float"]),
    ("fire:32/1 [squeeze=int9] classifier:10/1", ["'int9'", "int8", "svd"]),
    ("fire:32/1 [middle=int8] classifier:10/1", ["'middle'", "squeeze, expand1x1"]),
    ("conv:32/1 [conv=int8+svd-rank4] classifier:10/1", ["svd cannot follow int8", "factorise"]),
    ("conv:32/1 [conv=int8+int8] classifier:10/1", ["int8 cannot follow int8"]),
    ("mbconv:32/1 [depthwise=svd-rank2] classifier:10/1", ["svd-rank2", "depthwise", "pointwise"]),
    ("conv:8/1 classifier:10/1 [dense=l1_filters]", ["l1_filters", "dense"]),
    ("conv:32 classifier:10/1", ["'conv:32", "block:width/stride"]),
    ("conv:0/1 classifier:10/1", ["at least 1"]),
    ("conv:32/1", ["head", "classifier"]),
    ("classifier:10/1 conv:32/1 classifier:10/1", ["before the end"]),
    ("conv:32/1 classifier:10/1 | soft_target", ["'soft_target'", "soft_targets"]),
    ("conv:32/1 classifier:10/1 |", ["no recipe"]),
    ("conv-kernel4:32/1 classifier:10/1", ["kernel is 4", "1, 3, 5, 7"]),
    ("conv:32/1 [conv=magnitude-keep1.5] classifier:10/1", ["keep is 1.5"]),
    ("conv:32/1 [conv=svd] classifier:10/1", ["rank", "energy"]),
])
def test_a_mistake_is_answered_with_the_value_and_what_would_be_right(text, words):
    with pytest.raises(SpaceError) as caught:
        Candidate.parse(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@given(text=st.text(alphabet="firecov-:/[]=+|*0123. ", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_candidate_or_a_space_error(text):
    try:
        assert Candidate.parse(str(Candidate.parse(text))) == Candidate.parse(text)
    except SpaceError:
        pass


def test_the_choices_are_one_flat_list_that_does_not_depend_on_what_is_picked():
    asked = []
    space().sample(lambda name, options: asked.append(name) or options[-1])
    again = []
    space().sample(lambda name, options: again.append(name) or options[0])
    assert asked == again == list(space().choices)
    assert all(len(options) > 1 for options in space().choices.values())


def test_draws_that_differ_only_in_inactive_choices_are_one_candidate():
    first = {name: options[0] for name, options in space().choices.items()}
    other = {**first, "stage1.2.mbconv.kernel": 5, "stage1.0.mbconv.kernel": 5}
    assert other != first and space().decode(first) == space().decode(other)


def test_skipped_positions_leave_the_network():
    picks = {name: options[0] for name, options in space().choices.items()}
    shallow = space().decode({**picks, "stage1.layers": 1})
    skipped = space().decode({**picks, "stage1.layers": 3, "stage1.1.block": "skip", "stage1.2.block": "skip"})
    assert shallow == skipped


def test_compressions_are_offered_by_role_and_only_where_they_fit():
    choices = space().choices
    assert choices["stage1.0.fire.squeeze.compression"] == ("none", "l1_filters+int8")
    assert "l1_filters+int8" not in choices["stage1.0.mbconv.depthwise.compression"]
    assert choices["head.classifier.dense.compression"] == ("none", "svd-rank4", "svd-energy0.9+int8")


@pytest.mark.parametrize("changes, words", [
    ({"stages": []}, ["space.stages is empty"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "fyre"}]}]}, ["space.stages[0].blocks[0]", "'fyre'", "fire"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "conv", "size": 3}]}]}, ["blocks[0]", "'size'", "kernel"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "conv", "kernel": [3, 4]}]}]}, ["kernel is 4"]),
    ({"stages": [{"width": 8.5, "blocks": [{"name": "conv"}]}]}, ["space.stages[0].width is 8.5", "whole"]),
    ({"stages": [{"blocks": [{"name": "conv"}]}]}, ["space.stages[0].width", "None"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "conv"}], "depth": 2}]}, ["'depth'", "layers"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "skip"}]}]}, ["only skip"]),
    ({"stages": [{"width": 8, "blocks": [{"name": "classifier"}]}]}, ["space.head.blocks"]),
    ({"head": {"blocks": [{"name": "conv"}]}}, ["no head", "classifier"]),
    ({"compression": {"expnd": ["int8"]}}, ["expnd", "expand"]),
    ({"compression": {"*": ["int9"]}}, ['"*"', "'int9'", "int8"]),
    ({"compression": {"dense": ["l1_filters"]}}, ["dense", "fits no layer"]),
    ({"compression": {"dense": ["int8+svd-rank4"]}}, ["svd cannot follow int8"]),
    ({"recipes": ["soft"]}, ["space.recipes", "'soft'", "soft_targets"]),
])
def test_a_bad_table_is_refused_with_its_key(changes, words):
    with pytest.raises(SpaceError) as caught:
        space(**changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_strides_past_the_image_are_found_before_the_study_starts():
    stages = [{"width": 8, "stride": 2, "blocks": [{"name": "conv"}]}] * 5
    with pytest.raises(SpaceError, match=r"space.stages\[3\].stride is 2, past the 1x1 image"):
        space(stages=stages, compression={}).check((1, 8, 8))
