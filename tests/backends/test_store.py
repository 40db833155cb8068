"""The kernel store: what it keeps, for whom, and with many writers."""

import multiprocessing
from dataclasses import replace

import pytest

from backends.store import Store, Trial
from backends.target import load
from backends.workload import Tensor, Workload

WORKLOAD = Workload("relu", (("self", Tensor((1, 4, 3, 3), "float32", "channels_last")),), (),
                    Tensor((1, 4, 3, 3), "float32", "channels_last"))
FAST, SLOW, WRONG = (Trial("a", {"tile": 4}, (2.0, 1.0, 3.0)), Trial("b", {"tile": 8}, (5.0,)),
                     Trial("c", {}, (), "differs from torch by 3"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "kernels.db"


def test_the_fastest_option_comes_first_and_a_refused_one_is_never_best(path):
    store = Store(path, load("local"))
    store.add(WORKLOAD, [WRONG, SLOW, FAST])
    assert store.trials(WORKLOAD) == [FAST, SLOW, WRONG]
    assert store.best(WORKLOAD) == FAST and FAST.us == 2.0
    only_wrong = replace(WORKLOAD, op="relu6")
    store.add(only_wrong, [WRONG])
    assert store.best(only_wrong) is None and store.trials(only_wrong)[0].refused


def test_another_process_reads_what_was_written(path):
    Store(path, load("local")).add(WORKLOAD, [FAST])
    assert Store(path, load("local")).best(WORKLOAD) == FAST


def test_times_of_another_number_of_threads_or_another_processor_are_not_believed(path):
    target = load("local")
    Store(path, target).add(WORKLOAD, [FAST])
    assert Store(path, replace(target, threads=2)).best(WORKLOAD) is None
    assert Store(path, replace(target, mcpu="haswell")).best(WORKLOAD) is None


def test_a_workload_with_another_shape_type_or_layout_has_a_record_of_its_own(path):
    store = Store(path, load("local"))
    store.add(WORKLOAD, [FAST])
    for out in (Tensor((1, 4, 3, 4), "float32", "channels_last"), Tensor((1, 4, 3, 3), "uint8", "channels_last"),
                Tensor((1, 4, 3, 3), "float32")):
        assert store.best(replace(WORKLOAD, out=out)) is None


def test_what_is_measured_again_replaces_what_was_known(path):
    store = Store(path, load("local"))
    store.add(WORKLOAD, [FAST, SLOW])
    store.add(WORKLOAD, [replace(FAST, samples_us=(9.0,))])
    assert store.best(WORKLOAD) == SLOW
    store.forget(WORKLOAD)
    assert store.trials(WORKLOAD) == []


def _write(path, number: int) -> None:
    store = Store(path, load("local"))
    for i in range(20):
        store.add(replace(WORKLOAD, op=f"op{number}_{i}"), [FAST])


def test_several_processes_write_at_once_and_nothing_is_lost(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, number)) for number in range(3)]
    [writer.start() for writer in writers]
    [writer.join() for writer in writers]
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = Store(path, load("local"))
    assert all(store.best(replace(WORKLOAD, op=f"op{n}_{i}")) == FAST for n in range(3) for i in range(20))


def test_the_roofline_is_measured_once(path, monkeypatch):
    import backends.store as module
    from backends.roofline import Roofline

    calls = []
    monkeypatch.setattr(module, "measure_roofline", lambda target: calls.append(1) or Roofline(100.0, ((1024, 50.0),)))
    assert Store(path, load("local")).roofline() == Store(path, load("local")).roofline() == Roofline(100.0, ((1024, 50.0),))
    assert len(calls) == 1
