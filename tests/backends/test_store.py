"""The kernel store: what it keeps, for whom, and with many writers."""

import multiprocessing
import os
import sqlite3
from dataclasses import replace

import pytest

from backends.store import Store, Trial, _write_ahead
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


def test_object_code_of_another_processor_number_of_threads_or_triple_is_unknown(path):
    target = load("local")
    Store(path, target).add_objects({"kernel": b"code"})
    assert Store(path, target).objects(["kernel", "other"]) == {"kernel": b"code"}
    for other in ({"threads": 2}, {"mcpu": "haswell"}, {"triple": "aarch64-linux-gnu"}, {"features": frozenset()}):
        assert Store(path, replace(target, **other)).objects(["kernel"]) == {}


@pytest.mark.parametrize("damage", ["substr(code, 1, length(code) / 2)", "x''", "zeroblob(length(code))"])
def test_object_code_that_is_not_as_it_was_written_is_unknown_and_can_be_replaced(path, damage):
    store = Store(path, load("local"))
    store.add_objects({"broken": b"one" * 99, "whole": b"two"})
    with sqlite3.connect(path) as file:
        file.execute(f"UPDATE objects SET code = {damage} WHERE symbol = 'broken'")
    assert store.objects(["broken", "whole"]) == {"whole": b"two"}
    store.add_objects({"broken": b"anew"})
    assert store.objects(["broken"]) == {"broken": b"anew"}


def test_the_oldest_object_code_makes_room(path, monkeypatch):
    monkeypatch.setattr("backends.store.OBJECT_BYTES", 2500)
    store, codes = Store(path, load("local")), {f"kernel{i}": os.urandom(1000) for i in range(4)}
    for symbol, code in codes.items():
        store.add_objects({symbol: code})
    assert store.objects(codes) == {symbol: codes[symbol] for symbol in ("kernel2", "kernel3")}


def _write(path, number: int) -> None:
    store = Store(path, load("local"))
    for i in range(20):
        store.add(replace(WORKLOAD, op=f"op{number}_{i}"), [FAST])
        store.add_objects({f"shared{i}": f"code {i}".encode(), f"kernel{number}_{i}": bytes(1000)})


def test_several_processes_write_at_once_and_nothing_is_lost(path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, number)) for number in range(3)]
    [writer.start() for writer in writers]
    [writer.join() for writer in writers]
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = Store(path, load("local"))
    assert all(store.best(replace(WORKLOAD, op=f"op{n}_{i}")) == FAST for n in range(3) for i in range(20))
    assert store.objects(f"shared{i}" for i in range(20)) == {f"shared{i}": f"code {i}".encode() for i in range(20)}
    assert len(store.objects(f"kernel{n}_{i}" for n in range(3) for i in range(20))) == 60


class Refusing:
    """A connection that SQLite refuses so many times."""

    def __init__(self, times: int, words: str):
        self.left, self.words = times, words

    def execute(self, command: str) -> None:
        if self.left:
            self.left -= 1
            raise sqlite3.OperationalError(self.words)


def test_a_file_that_another_process_is_opening_is_waited_for_and_other_mistakes_are_not():
    locked, broken = Refusing(3, "database is locked"), Refusing(3, "attempt to write a readonly database")
    _write_ahead(locked)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        _write_ahead(broken)
    assert (locked.left, broken.left) == (0, 2)


def test_the_roofline_is_measured_once(path, monkeypatch):
    import backends.store as module
    from backends.roofline import Roofline

    calls = []
    monkeypatch.setattr(module, "measure_roofline", lambda target: calls.append(1) or Roofline(100.0, ((1024, 50.0),)))
    assert Store(path, load("local")).roofline() == Store(path, load("local")).roofline() == Roofline(100.0, ((1024, 50.0),))
    assert len(calls) == 1
