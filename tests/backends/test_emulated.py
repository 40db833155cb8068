"""Many cases run as one program of a board: what is wrong with one of them is said of that one."""

import re
from dataclasses import replace

import numpy as np
import pytest

from backends.target import load
from tests.backends import emulated
from tests.backends.running import failures
from tests.backends.runs import served

BOARD = load("raspberry-pi-5")
pytestmark = pytest.mark.skipif(bool(emulated.missing(BOARD)), reason=emulated.missing(BOARD))


@pytest.fixture
def runs():
    """Of a few cases, none like another."""
    return [run for each in served("linear", 5, BOARD) for run in each]


def test_a_wrong_result_is_said_of_its_case(runs):
    runs[2] = replace(runs[2], expected=runs[2].expected + 1)
    said = failures(runs, BOARD)
    assert len(said) == 1 and said[0].startswith(str(runs[2]))


def test_the_case_in_which_a_program_ends_is_named(runs):
    x, *others = runs[2].inputs
    runs[2] = replace(runs[2], inputs=(np.zeros((len(x) + 1, *x.shape[1:]), x.dtype), *others))
    with pytest.raises(AssertionError, match=re.escape(str(runs[2]))):
        failures(runs, BOARD)
