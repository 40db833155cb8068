"""The command line as installed, run from another directory: a mistake is one line and exit code 2."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NETWRIGHT = Path(sys.executable).parent / "netwright"


def netwright(*arguments, cwd, **kwargs) -> subprocess.CompletedProcess:
    """Runs the installed console script."""
    return subprocess.run([NETWRIGHT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          timeout=300, **kwargs)


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2, one line, no traceback, and the words in it."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def study_text(**changes: str) -> str:
    """The digits study with pieces replaced."""
    text = (ROOT / "studies" / "digits.toml").read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("change, words", [
    (('{ name = "conv" },', '{ name = "konv" },'), ["'konv'", "space.stages[1].blocks[0]", "mbconv"]),
    (("stride = 2", "stride = 9"), ["stride is 9", "8x8 image", "space.stages[1]"]),
    (('constraints = ["latency_ms', 'constraints = ["energy_mj'), ["'energy_mj'", "study.constraints", "latency_ms"]),
    (('"svd-energy0.9+int8"', '"svd-energy9"'), ["svd energy is 9", "pointwise"]),
    (('source = "digits"', 'source = "folder"\npath = "nowhere.zip"'), ["nowhere.zip", "data.path", "NETWRIGHT_DATA"]),
    (('name = "local"', 'name = "lokal"'), ["'lokal'", "local"]),
    (('augment = ["crop"]', 'augment = ["spin"]'), ["'spin'", "crop, cutout, flip"]),
])
def test_a_mistake_in_a_study_file(change, words, tmp_path):
    (tmp_path / "study.toml").write_text(study_text(it=change))
    refused(netwright("run", "study.toml", "--out", "out", cwd=tmp_path), *words)
    assert not (tmp_path / "out" / "study.db").exists()


def test_files_that_are_not_there(tmp_path):
    refused(netwright("run", "nothing.toml", cwd=tmp_path), "nothing.toml does not exist")
    refused(netwright("resume", "nowhere", cwd=tmp_path), "nowhere holds no study")
    refused(netwright("front", "nowhere", cwd=tmp_path), "nowhere holds no study")


def made_study(tmp_path) -> Path:
    """A study directory without candidates."""
    from search.storage import create, open_storage
    from search.study_file import load

    directory = tmp_path / "out"
    create(directory, load(ROOT / "studies" / "digits.toml"))
    open_storage(directory)
    return directory


def test_run_does_not_touch_a_directory_that_holds_a_study(tmp_path):
    directory = made_study(tmp_path)
    before = (directory / "study.db").read_bytes()
    refused(netwright("run", ROOT / "studies" / "digits.toml", "--out", "out", cwd=tmp_path), "netwright resume out")
    assert (directory / "study.db").read_bytes() == before


@pytest.mark.parametrize("damage", [b"not a database", None], ids=["overwritten", "truncated"])
def test_a_corrupt_database_is_named_and_left_alone(damage, tmp_path):
    file = made_study(tmp_path) / "study.db"
    content = damage * 500 if damage else file.read_bytes()[: file.stat().st_size // 2 + 100]
    file.write_bytes(content)
    for command in ("front", "resume"):
        refused(netwright(command, "out", cwd=tmp_path), "study.db")
    assert file.read_bytes() == content


def test_a_full_disk_is_named(tmp_path):
    """A limit on the size of files stands for a disk with no room: writing study.db fails."""
    def limit():
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    done = netwright("run", ROOT / "studies" / "digits.toml", "--out", "out", cwd=tmp_path, preexec_fn=limit)
    refused(done, "out")


def test_an_unusable_option_is_refused(tmp_path):
    done = netwright("run", "x.toml", "--trials", "none", cwd=tmp_path)
    assert done.returncode == 2 and "'none' must be a whole number" in done.stderr


@pytest.mark.parametrize("command, words", [
    ("blocks", ["conv", "fire", "mbconv", "skip", "depthwise_separable", "[92]"]),
    ("methods", ["int8", "l1_filters", "svd", "magnitude", "soft_targets", "[46]", "gain: ", "depthwise, dense"]),
    ("targets", ["local", "reachable"])])
def test_listings(command, words, tmp_path):
    done = netwright(command, cwd=tmp_path)
    assert done.returncode == 0 and all(word in done.stdout for word in words), done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["measure", "nothing.onnx"], ["nothing.onnx", "no such file"]),
    (["measure", "alexnet@224"], ["'alexnet'", "mobilenet_v2"]),
    (["measure", "resnet20@32", "--vs", "tensorrt"], ["'tensorrt'", "onnxruntime"]),
    (["measure", "resnet20@32", "--target", "toaster"], ["'toaster'", "local"]),
    (["bench", "speed"], ["'speed'", "kernels", "nets"])])
def test_a_mistake_in_what_is_to_be_measured(arguments, words, tmp_path):
    refused(netwright(*arguments, cwd=tmp_path), *words)


def test_a_user_s_own_network_is_measured_and_written_as_json(tmp_path):
    import json

    (tmp_path / "mine.py").write_text("from torch import nn\n\n\ndef small():\n"
                                      "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))\n")
    done = netwright("measure", "mine:small", "--input", "1x3x8x8", "--vs", "torch", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["latency_ms"] > 0 and written["fallback"] == 0 and written["layout_changes"] == 1
    assert {"op", "kernel", "option", "us", "gflops", "percent_of_peak", "gbps"} <= written["ops"][0].keys()
    assert "conv2d+relu" in done.stdout and "torch" in done.stdout
