"""The published SqueezeNet of Deep Compression in our stored forms."""

import os
from pathlib import Path

import numpy as np
import pytest

from search.bench import deep_compression
from search.bench.deep_compression import BenchError

DATA = Path(os.environ.get("NETWRIGHT_DATA", "../shared/data")) / "models" / "squeezenet_deepcompression"


def test_the_published_weights_come_back_exactly_in_fewer_bytes(tmp_path):
    if not (DATA / deep_compression.DECODED).is_file():
        pytest.skip(f"{DATA} is missing; set NETWRIGHT_DATA to the folder that holds models/squeezenet_deepcompression")
    weights = deep_compression.decoded(DATA / deep_compression.DECODED)
    frozen, counts = deep_compression.stored(weights, tmp_path)
    found = deep_compression.unpacked(frozen)
    published = np.load(DATA / deep_compression.DECODED)
    assert len(found) == 26 and sum(weight.numel() for weight in found.values()) == 1_244_448
    np.testing.assert_array_equal(found["9.expand3x3"].numpy(), published["fire7__conv3x3_2.weight"])
    np.testing.assert_array_equal(found["14"].numpy(), published["conv_final.weight"])
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    payload = sum(len(data) - 8 - int.from_bytes(data[:8], "little") for data in files)
    assert payload == counts["stored_bytes"] <= 675_763 and sum(map(len, files)) == counts["file_bytes"]


def test_missing_data_is_named_with_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NETWRIGHT_DATA", str(tmp_path))
    with pytest.raises(BenchError, match="compressed_SqueezeNet.net is missing; set NETWRIGHT_DATA .*github.com"):
        deep_compression.run(None)
