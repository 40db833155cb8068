"""Channels cut into vectors and blocks."""

from hypothesis import given
from hypothesis import strategies as st

from backends.channels import blocks_of, vectors_of
from backends.product import tiles_of

LANES = st.sampled_from([4, 8, 16])


@given(channels=st.integers(1, 300), lanes=LANES)
def test_vectors_cover_every_channel_and_none_beyond(channels, lanes):
    vectors = vectors_of(channels, lanes)
    covered = {v.start + lane for v in vectors for lane in range(v.lanes)}
    assert covered == set(range(channels))
    assert all(v.lanes <= lanes and v.lanes & (v.lanes - 1) == 0 for v in vectors)
    assert len(vectors) <= channels // lanes + 2


@given(channels=st.integers(1, 300), lanes=LANES, vectors=st.integers(1, 6))
def test_blocks_cover_every_channel_and_their_packed_rows_do_not_overlap(channels, lanes, vectors):
    blocks = blocks_of(channels, lanes, vectors)
    covered = {b.first + n * b.width + v.start + lane
               for b in blocks for n in range(b.count) for v in b.vectors for lane in range(v.lanes)}
    assert covered == set(range(channels))
    rows = [b.base + n * b.width + i for b in blocks for n in range(b.count) for i in range(b.width)]
    assert sorted(rows) == list(range(len(rows)))


@given(extent=st.integers(1, 500), size=st.integers(1, 40))
def test_tiles_cover_an_extent_once(extent, size):
    places = [t.start + i * t.size + j for t in tiles_of(extent, size) for i in range(t.count) for j in range(t.size)]
    assert places == list(range(extent))
