"""Intermediate results share memory only if they are never needed at the same time."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from backends.memory import ALIGNMENT_BYTES, Life, places, total

LIVES = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 20)), max_size=30).map(
    lambda rows: {f"t{i}": Life(size, min(a, b), max(a, b)) for i, (size, a, b) in enumerate(rows)})


@given(LIVES, st.integers(1, 4))
def test_tensors_that_are_needed_together_lie_apart_and_aligned(lives, threads):
    placed = places(lives, threads)
    assert placed.keys() == lives.keys() and all(offset % ALIGNMENT_BYTES == 0 for offset in placed.values())
    for one, other in combinations(lives, 2):
        if set(range(lives[one].first, lives[one].last + 1)) & set(range(lives[other].first, lives[other].last + 1)):
            low, high = sorted((one, other), key=placed.get)
            assert placed[low] + lives[low].size <= placed[high]


@given(LIVES, st.integers(1, 4))
def test_the_block_is_as_large_as_its_last_tensor_needs_and_never_more_than_all_of_them(lives, threads):
    whole = total(places(lives, threads), lives)
    least = {name: _rounded(life.size, ALIGNMENT_BYTES) for name, life in lives.items()}
    most = least if threads == 1 else {name: _rounded(life.size, 2 * ALIGNMENT_BYTES) for name, life in lives.items()}
    busiest = max((sum(least[n] for n, life in lives.items() if life.first <= step <= life.last) for step in range(21)), default=0)
    assert busiest <= whole <= sum(most.values())


def _rounded(size, unit):
    return -(-size // unit) * unit


def test_a_chain_takes_the_room_of_its_largest_neighbours():
    sizes = (64, 640, 1280, 128, 64)
    lives = {f"t{i}": Life(size, i, i + 1) for i, size in enumerate(sizes)}
    assert total(places(lives), lives) == 640 + 1280


def test_on_threads_what_shares_a_place_has_its_middle_in_common():
    sizes = (64, 640, 1280, 128, 4096)
    lives = {f"t{i}": Life(size, i, i + 1) for i, size in enumerate(sizes)}
    placed = places(lives, 2)
    middles = [placed[name] + life.size / 2 for name, life in lives.items()]
    assert max(middles[::2]) - min(middles[::2]) < ALIGNMENT_BYTES
    assert max(middles[1::2]) - min(middles[1::2]) < ALIGNMENT_BYTES
    assert total(placed, lives) == 640 + 4096
