"""The controller: every candidate once, what is known is not run again, interrupted jobs come back once."""

import itertools
import random

import msgspec
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.score import Result
from search import sampling
from search.controller import Controller
from search.executors import inline
from search.ladder import Ladder
from search.pareto import Front, dominates, losses
from search.study_file import StartTable
from tests.search.conftest import made_up

optuna.logging.set_verbosity(optuna.logging.ERROR)


def storage(tmp_path):
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")


def tell(controller, job, seconds):
    """The made-up result of a job, and what it took."""
    controller.tell(job, made_up(str(job.candidate), job.rung), seconds)


def run(controller, trials):
    """Runs jobs with the made-up scorer; returns the candidates in order."""
    seen = []
    why = inline.run(controller, made_up, trials, 60, lambda job, result: seen.append(str(job.candidate)))
    return seen, why


@pytest.mark.parametrize("sampler", sampling.names())
def test_a_study_starts_with_the_candidates_that_it_names_once_even_if_it_is_interrupted(sampler, study, space, tmp_path):
    pick = random.Random(5)
    wanted = list(dict.fromkeys(str(space.sample(lambda name, options: pick.choice(options))) for _ in range(6)))
    started = msgspec.structs.replace(study, start=StartTable(candidates=wanted), study=msgspec.structs.replace(study.study, sampler=sampler))
    first, why = run(Controller(space, started, storage(tmp_path)), 2)
    second, _ = run(Controller(space, started, storage(tmp_path)), len(wanted) + 3)
    assert why == "trials" and [*first, *second][:len(wanted)] == wanted and len(set([*first, *second])) == len(wanted) + 3


@pytest.mark.parametrize("sampler", sampling.names())
def test_every_sampler_scores_distinct_candidates_and_keeps_the_true_front(sampler, study, space, tmp_path):
    table = msgspec.structs.replace(study.study, sampler=sampler)
    controller = Controller(space, msgspec.structs.replace(study, study=table), storage(tmp_path))
    seen, why = run(controller, 30)
    assert why == "trials" and len(seen) == len(set(seen)) == 30
    points = {text: losses([r.metrics["accuracy"], r.metrics["latency_ms"]], ["maximize", "minimize"])
              for text in seen for r in [made_up(text)] if r.status == "scored"}
    front = {t for t, p in points.items() if not any(dominates(q, p) for q in points.values())}
    assert set(controller.front.members) == front


def test_a_failed_candidate_is_recorded_with_its_reason_and_the_study_goes_on(study, space, tmp_path):
    controller = Controller(space, study, storage(tmp_path))
    job = controller.ask()
    controller.tell(job, Result("failed", reason="the kernel crashed"), 1.0)
    trial = controller._study.trials[job.number]
    assert trial.state.name == "FAIL" and trial.user_attrs["reason"] == "the kernel crashed"
    assert trial.user_attrs["candidate"] == str(job.candidate) and controller.ask() is not None


def test_resuming_repeats_nothing_and_queues_what_was_in_flight_once(study, space, tmp_path):
    first = Controller(space, study, storage(tmp_path))
    seen, _ = run(first, 12)
    lost = first.ask()
    second = Controller(space, study, storage(tmp_path))
    assert second.tally.candidates == 12 and second.front.members == first.front.members
    again = second.ask()
    assert again.candidate == lost.candidate, "the job in flight comes first"
    second.tell(again, made_up(again.candidate), 1.0)
    more, _ = run(second, 25)
    everything = [*seen, str(lost.candidate), *more]
    assert len(everything) == len(set(everything)) == 25
    third = Controller(space, study, storage(tmp_path))
    assert third.tally.candidates == 25 and third.tally.duplicates == second.tally.duplicates


@pytest.fixture
def laddered(study):
    """The study with three rungs."""
    return msgspec.structs.replace(study, train=msgspec.structs.replace(study.train, rungs=("inherit", "finetune:2", "full")))


def test_about_a_third_of_each_rung_goes_on_and_every_trial_is_told_once_at_its_last(laddered, space, tmp_path):
    controller = Controller(space, laddered, storage(tmp_path))
    while controller.tally.candidates < 60:
        tell(controller, controller.ask(), 1.0)
    jobs = [len(controller.costs[rung]) for rung in range(3)]
    assert 60 // 5 < jobs[1] < 60 // 2 and jobs[1] // 5 < jobs[2] < jobs[1] * 2 // 3
    for trial in controller._study.trials:
        if trial.user_attrs.get("status") == "scored":
            text, rung = trial.user_attrs["candidate"], trial.user_attrs["rung"]
            assert trial.values == [made_up(text, rung).metrics[name] for name in controller.objectives]


def test_fewer_go_on_where_the_next_rung_costs_more_so_that_it_takes_no_more_time(laddered, space, tmp_path):
    controller = Controller(space, laddered, storage(tmp_path))
    while controller.tally.candidates < 100:
        job = controller.ask()
        tell(controller, job, (1.0, 10.0, 20.0)[job.rung])
    spent = [sum(controller.costs[rung]) for rung in range(3)]
    assert 0.5 * spent[0] < spent[1] <= 1.5 * spent[0] and spent[2] <= 1.5 * spent[0]


def test_the_front_holds_candidates_of_the_highest_rung_alone(laddered, space, tmp_path):
    controller = Controller(space, laddered, storage(tmp_path))
    run(controller, 40)
    top = {t.user_attrs["candidate"] for t in controller._study.trials if t.user_attrs.get("rung") == 2}
    assert controller.front.members and set(controller.front.members) <= top


def test_a_candidate_that_was_on_its_way_up_goes_on_there_after_a_kill(laddered, space, tmp_path):
    first = Controller(space, laddered, storage(tmp_path))
    while True:
        lost = first.ask()
        if lost.rung == 1:
            break
        first.tell(lost, made_up(lost.candidate, lost.rung), 1.0)
    second = Controller(space, laddered, storage(tmp_path))
    again = second.ask()
    assert (again.candidate, again.rung) == (lost.candidate, 1)
    second.tell(again, made_up(again.candidate, 1), 1.0)
    trial = second._study.trials[again.number]
    assert trial.user_attrs["rung.0.accuracy"] == made_up(lost.candidate, 0).metrics["accuracy"]


def test_a_candidate_whose_figures_were_written_but_not_told_begins_that_rung_again(laddered, space, tmp_path):
    first = Controller(space, laddered, storage(tmp_path))
    lost = first.ask()
    first._write(first._trials[lost.number], 0, made_up(lost.candidate), 1.0)
    again = Controller(space, laddered, storage(tmp_path)).ask()
    assert (again.candidate, again.rung) == (lost.candidate, 0)


def test_what_no_other_beats_goes_on_and_what_all_beat_does_not():
    ladder = Ladder()
    for step in range(9):
        ladder.enter(0, (1.0 + step, 10.0 - step))
    assert ladder.enter(0, (0.5, 0.5)) and not ladder.enter(0, (20.0, 20.0)) and ladder.enter(1, (20.0, 20.0))


def test_among_equals_the_one_that_lies_apart_goes_on():
    ladder = Ladder()
    for step in range(10):
        ladder.enter(0, (step * 0.01, 0.1 - step * 0.01))
    assert ladder.enter(0, (1.0, -1.0)) and not ladder.enter(0, (0.045, 0.055))


def test_a_space_that_is_used_up_ends_the_study(study, tmp_path):
    from spaces.space import Space

    tiny = Space.from_tables([{"width": [8, 16], "blocks": [{"name": "conv"}]}], {}, {}, [], 10)
    seen, why = run(Controller(tiny, study, storage(tmp_path)), 30)
    assert why == "space" and len(seen) == 2


def test_the_same_seed_draws_the_same_candidates(study, space, tmp_path):
    runs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        runs.append(run(Controller(space, study, storage(tmp_path / name)), 20)[0])
    assert runs[0] == runs[1]


def test_constraints_reach_the_sampler_as_violations(study, space, tmp_path):
    controller = Controller(space, study, storage(tmp_path))
    run(controller, 30)
    for trial in controller._study.trials:
        if "rung.0.stored_bytes" in trial.user_attrs:
            violation = trial.constraints["stored_bytes <= 900"]
            assert (violation > 0) == (trial.user_attrs["rung.0.stored_bytes"] > 900)


@given(st.lists(st.tuples(*[st.floats(0.01, 1)] * 2), min_size=11, max_size=40))
@settings(max_examples=60, deadline=None)
def test_hypervolume_is_the_area_of_the_union_of_boxes(points):
    front = Front()
    for number, point in enumerate(points):
        front.add(str(number), point)
    rx, ry = (max(column) for column in zip(*points[:10]))
    inside = sorted(p for p in points if p[0] < rx and p[1] < ry)
    area, floor = 0.0, ry
    for (x, y), following in itertools.zip_longest(inside, inside[1:]):
        floor = min(floor, y)
        area += ((following[0] if following else rx) - x) * (ry - floor)
    assert front.hypervolume() == pytest.approx(area / (rx * ry), abs=1e-9)


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_front_is_what_no_other_point_dominates(points):
    front = Front()
    for number, point in enumerate(points):
        front.add(str(number), point)
    array = np.array(points).reshape(-1, 3)
    expected = {tuple(p) for p in array if not ((array <= p).all(1) & (array < p).any(1)).any()}
    assert set(front.members.values()) == expected
