"""Entropy coding: written and read back byte for byte, sizes to the byte and near the entropy, and files that are damaged."""

import json

import numpy as np
import pytest
from bitarray import bitarray
from bitarray.util import canonical_decode
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.candidate import parse_chain
from spaces.gene import SpaceError
from spaces.huffman import encode, stored_bytes, write
from spaces.weights import CODED_FILE, PLAIN_FILE, TYPES, WeightsError, decode_plane, read, sizes


@st.composite
def tensors(draw):
    """Tensors of every stored type: few or many different values, none, runs of zeros."""
    dtype, rng = np.dtype(draw(st.sampled_from(list(TYPES.values())))), np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (300,), (40, 33), (3, 5, 3, 3), (20_000,)]))
    values = rng.standard_normal(shape) * draw(st.sampled_from([0.0, 0.6, 5.0, 3000.0]))
    values = np.where(rng.random(shape) < draw(st.sampled_from([0.001, 0.3, 1.0])), values, 0)
    if dtype.kind != "f":
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.asarray(values).astype(dtype)


@given(given_=st.lists(tensors(), max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back_byte_for_byte_and_takes_the_bytes_that_are_said(given_, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    state = {f"{'layer' if i % 3 else 'other'}.{i}": tensor for i, tensor in enumerate(given_)}
    write(state, ["layer"], folder)
    found = read(folder)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()
    payload = {name: size for file in sizes(folder).values() for name, size in file.items()}
    assert payload == stored_bytes(state, ["layer"])
    for file in sizes(folder):
        data = (folder / file).read_bytes()
        assert len(data) - 8 - int.from_bytes(data[:8], "little") == sum(sizes(folder)[file].values())


@given(seed=st.integers(0, 2**31), size=st.integers(1, 30_000), spread=st.floats(0.01, 60))
@settings(max_examples=50, deadline=None)
def test_codes_are_canonical_huffman_codes(seed, size, spread):
    """bitarray's own decoder reads the same symbols from the stored table and stream."""
    symbols = np.clip(np.random.default_rng(seed).standard_normal(size) * spread + 128, 0, 255).astype(np.uint8)
    (coding, data), = encode(symbols).planes
    np.testing.assert_array_equal(decode_plane(coding, data, size), symbols)
    if coding != "bits8":
        return
    longest = data[4]
    counts, rest = list(data[5:5 + longest]), data[5 + longest:]
    stream = bitarray(endian="big")
    stream.frombytes(rest[sum(counts):])
    decoded = canonical_decode(stream, [0, *counts], list(rest[:sum(counts)]))
    assert bytes(next(decoded) for _ in range(size)) == symbols.tobytes()


def entropy(shares: np.ndarray) -> float:
    """Bits a symbol (Shannon, 1948)."""
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def test_sizes_lie_within_a_few_percent_of_the_entropy_for_each_kind_of_tensor():
    """Codes of 5 bits, int8 values, a third of ones and one in a hundred: each takes symbols of its own kind."""
    rng = np.random.default_rng(0)
    five = np.clip(np.rint(rng.standard_normal(200_000) * 4 + 16), 0, 31).astype(np.uint8)
    kinds = {"bits5": (five, np.packbits(np.unpackbits(five[:, None], axis=1, count=5, bitorder="little"), bitorder="little"))}
    eight = np.rint(rng.standard_normal(200_000) * 12).astype(np.int8)
    kinds["bits8"] = (eight, eight)
    for coding, share in (("bits", 0.33), ("gaps", 0.01)):
        bits = (rng.random(400_000) < share).astype(np.uint8)
        kinds[coding] = (bits, np.packbits(bits, bitorder="little"))
    for coding, (values, stored) in kinds.items():
        coded = encode(stored)
        bound = len(values) * entropy(np.unique(values, return_counts=True)[1] / len(values)) / 8
        assert bound < coded.stored_bytes < 1.03 * bound + 300 and coded.planes[0][0].startswith(coding), coding


def test_very_uneven_symbols_have_codes_short_enough_for_a_table():
    """Frequencies of Fibonacci give a Huffman code of one bit more for each symbol."""
    counts = [1, 1]
    while len(counts) < 26:
        counts.append(counts[-1] + counts[-2])
    symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(26, dtype=np.uint8), counts))
    (coding, data), = encode(symbols).planes
    assert data[4] <= 16
    np.testing.assert_array_equal(decode_plane(coding, data, len(symbols)), symbols)


def test_a_tensor_that_would_grow_is_stored_as_it_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 3000).astype(np.uint8)
    write({"a.noise": noise, "a.zeros": np.zeros(3000, np.int8)}, ["a"], tmp_path)
    assert sizes(tmp_path)[PLAIN_FILE] == {"a.noise": 3000} and sizes(tmp_path)[CODED_FILE]["a.zeros"] < 400


def test_nothing_is_coded_and_no_file_is_written_where_no_layer_asks(tmp_path):
    write({"ab.weight": np.zeros(3000, np.int8)}, ["a"], tmp_path)
    assert not (tmp_path / CODED_FILE).exists()


@pytest.fixture
def coded(tmp_path):
    """A folder with a plain and a coded tensor."""
    rng = np.random.default_rng(0)
    write({"a.codes": np.rint(rng.standard_normal(5000) * 9).astype(np.int8), "b.weight": np.ones(9, np.float32)}, ["a"], tmp_path)
    return tmp_path


def refused(folder) -> str:
    with pytest.raises(WeightsError) as error:
        read(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_cut_off_at_any_place_are_named(coded):
    for file in (CODED_FILE, PLAIN_FILE):
        data = (coded / file).read_bytes()
        for size in {0, 5, 8, 40, len(data) // 2, len(data) - 1}:
            (coded / file).write_bytes(data[:size])
            assert f"{file} is corrupt" in refused(coded)
        (coded / file).write_bytes(data)
    (coded / CODED_FILE).unlink()
    assert "weights.nw is missing" in refused(coded)


def test_any_changed_byte_of_codes_is_found(coded):
    data = (coded / CODED_FILE).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    for at in [*range(begin, begin + 60), *range(begin + 60, len(data) - 1, 97)]:
        (coded / CODED_FILE).write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:])
        assert "weights.nw is corrupt (a.codes: " in refused(coded)


@pytest.mark.parametrize("change", [{"dtype": "F8"}, {"shape": [7]}, {"planes": []}, {"planes": [["bits9", 4]]}, {"offsets": [0]},
                                    {"offsets": [9, 3]}, {"planes": [["other", 1]]}, {"crc32": 1}])
def test_headers_that_make_no_sense_are_named(coded, change):
    data = (coded / CODED_FILE).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header["a.codes"] |= change
    text = json.dumps(header).encode()
    (coded / CODED_FILE).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size:])
    assert "weights.nw is corrupt (a.codes: " in refused(coded)


@pytest.mark.parametrize("chain", ["huffman+int8", "huffman+codebook", "huffman+magnitude", "huffman+huffman"])
def test_coding_comes_last_in_a_chain(chain):
    with pytest.raises(SpaceError, match="cannot follow huffman; the order is .* quantise, store, one of each"):
        parse_chain(chain)
