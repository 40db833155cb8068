"""What `netwright bench compress` compares, on a small network for the digits."""

import numpy as np
import pytest

from backends.target import load
from search.bench import compress as bench


@pytest.mark.slow
def test_the_front_stands_beside_uniform_settings_trained_as_long(tmp_path, monkeypatch, capsys):
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.images * 15.9).astype(np.uint8), digits.target
    np.savez(tmp_path / "digits.npz", x_train=images[:1200], y_train=labels[:1200], x_test=images[1200:], y_test=labels[1200:])
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine
    from safetensors.torch import save_file

    save_file(mine.small().state_dict(), tmp_path / "small.safetensors")
    monkeypatch.setenv("NETWRIGHT_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    changed = {"FOLDER": tmp_path / "runs", "MODEL": "mine:small", "WEIGHTS": "small.safetensors", "ARCHIVE": "digits.npz", "MEAN": "0.3",
               "STD": "0.4", "TIME": "45s"}
    for name, value in changed.items():
        monkeypatch.setattr(bench, name, value)
    result = bench.run(load("local"))
    assert result["front"] and set(result["uniform"]) == set(bench.UNIFORM)
    dense = result["uniform"]["uncompressed"]
    assert all(row["stored_bytes"] < dense["stored_bytes"] for name, row in result["uniform"].items() if name != "uncompressed")
    for name, beaten in result["beaten"]:
        loser = next(row for row in result["front"] if row["id"] == beaten)
        assert all(result["uniform"][name][key] <= loser[key] for key in ("latency_ms", "stored_bytes"))
    bench.show(result)
    assert "at least 4 times smaller" in capsys.readouterr().out


CODE = '''
from torch import nn


def small():
    return nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1, bias=False),
                         nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
'''
