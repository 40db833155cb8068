"""Compiled kernels: a known one is linked as it is, and only what is new or damaged is compiled."""

import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch

import backends.compile
import spaces.ops
from backends.channels import blocks_of
from backends.compile import compile_program
from backends.library import Library
from backends.packing import packed_rows, packed_words
from backends.target import load
from backends.verify import verify
from backends.workload import Tensor

spaces.ops.register_all()
TARGET = load("local")
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 13, 13), dtype=np.float32)


def program(kernel: int = 3):
    """Four convolutions, a residual sum and a concatenation, exported with random weights."""
    torch.manual_seed(0)
    first, wide, narrow, last = (torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 37, 1), torch.nn.Conv2d(37, 16, 1),
                                 torch.nn.Conv2d(32, 8, kernel, 2, kernel // 2))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList([first, wide, narrow, last])

        def forward(self, x):
            x = torch.relu(first(x))
            return last(torch.cat([x, x + narrow(torch.relu(wide(x)))], 1)).flatten(1)
    return torch.export.export(Network(), (torch.from_numpy(IMAGES[:1]),))


@pytest.fixture
def compiled(tmp_path):
    """A function that compiles a program with the test's own store, compares the library with torch, and tells how many
    functions were built."""
    def built(exported, target=TARGET, retune=False) -> int:
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}.so"  # a path is loaded once in a process
        report = compile_program(exported, target, path, tmp_path / "kernels.db", retune)
        weights = {name: tensor.detach().numpy() for name, tensor in exported.state_dict.items()}
        library = Library(path, report.parameters, weights)
        checked = verify(exported, library, IMAGES, target, report.joined)
        assert checked.mismatch == "" and checked.inputs == len(IMAGES)
        return report.kernels_built
    return built


def test_a_network_whose_kernels_are_known_is_compiled_without_building_any(compiled):
    # a kernel for each convolution and for the copy before the flattening, what packs the weights of each, and what calls all
    assert compiled(program()) == 5 + 4 + 1
    assert compiled(program()) == 0


def test_a_layer_that_changes_builds_its_own_kernels_and_what_calls_them(compiled):
    compiled(program())
    assert compiled(program(kernel=5)) == 1 + 1 + 1
    assert compiled(program(kernel=5)) == compiled(program()) == 0


def test_measuring_again_builds_again(compiled):
    everything = compiled(program())
    assert compiled(program(), retune=True) == everything > compiled(program()) == 0


def test_kernels_compiled_for_another_target_are_not_used(compiled, monkeypatch):
    monkeypatch.setattr(backends.compile, "WORTH_A_CREW_US", 0)
    everything = compiled(program())
    assert compiled(program(), replace(TARGET, threads=2)) == everything + 1  # the crew's code


@pytest.mark.parametrize("worth_us, crews", [(0, 1), (1e9, 0)])
def test_a_crew_is_linked_where_the_network_takes_long_enough(worth_us, crews, compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(backends.compile, "WORTH_A_CREW_US", worth_us)
    compiled(program(), replace(TARGET, threads=2))
    with sqlite3.connect(tmp_path / "kernels.db") as file:
        assert file.execute("SELECT COUNT(*) FROM objects WHERE symbol LIKE 'crew%'").fetchone() == (crews,)


def test_damaged_code_is_built_again(compiled, tmp_path):
    compiled(program())
    with sqlite3.connect(tmp_path / "kernels.db") as file:
        file.execute("UPDATE objects SET code = substr(code, 1, 200) WHERE symbol LIKE 'pack%'")
        damaged, = file.execute("SELECT COUNT(*) FROM objects WHERE symbol LIKE 'pack%'").fetchone()
    assert compiled(program()) == damaged > 0
    assert compiled(program()) == 0


def test_weights_that_are_packed_alike_have_one_name_and_others_another():
    weight, blocks = Tensor((48, 64, 3, 3), "float32"), blocks_of(48, 16, 2)
    names = [packed.key for packed in (packed_rows(weight, blocks, 1), packed_rows(weight, blocks_of(48, 16, 1), 1),
                                        packed_rows(weight, blocks_of(24, 16, 1), 2), packed_words(Tensor((48, 64, 3, 3), "int8"), blocks, 1),
                                        packed_rows(Tensor((48, 64, 1, 9), "float32"), blocks, 1))]
    assert len(set(names)) == len(names)
    assert packed_rows(Tensor((48, 64, 3, 3), "float32"), blocks_of(48, 16, 2), 1).key == names[0]
