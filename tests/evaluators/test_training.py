"""Data and training: splits, sources, augmentation, recipes, determinism, and what is wrong with files."""

import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluators.training.data import Dataset, Split, batches, open_data
from evaluators.training.loop import Diverged, evaluate, train, warm
from evaluators.training.raw import DataError
from evaluators.training.rows import Rows
from evaluators.training.schedule import Schedule, groups_of, warmed_cosine
from evaluators.training.sources import folder
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import parse
from spaces.recipe import Batch

FAST = Schedule(epochs=8, batch=64, learning_rate=0.2, weight_decay=5e-4)


def settings(**changes):
    """A [data] table."""
    return SimpleNamespace(**{"source": "digits", "path": "", "validation": 0.2, "validation_from": "train", "augment": [], **changes})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(settings(augment=["crop"]), 0)


def write_images(root, size=(6, 5), classes=("cat", "dog"), splits=("train", "test"), count=5, mode="RGB"):
    """PNG files in folders; returns the pixels by name."""
    rng, pixels = np.random.default_rng(0), {}
    for split in splits:
        for label in classes:
            for i in range(count):
                shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
                pixels[f"{split}/{label}/{i}.png"] = rng.integers(0, 256, shape, dtype=np.uint8)
    for name, array in pixels.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / name)
    return pixels


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "images"
    root.mkdir()
    return root


def test_splits_are_disjoint_stratified_and_the_same_again(digits):
    again = open_data(settings(), 0)
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert torch.equal(digits.test.images, again.test.images) and torch.equal(digits.validation.labels, again.validation.labels)
    shares = [torch.bincount(s.labels, minlength=10) / len(s) for s in (digits.train, digits.validation, digits.test)]
    assert (shares[0] - shares[1]).abs().max() < 0.01 and (shares[0] - shares[2]).abs().max() < 0.01


def test_another_seed_carves_another_validation_split_and_the_same_test_split(digits):
    other = open_data(settings(), 1)
    assert not torch.equal(other.validation.images[:], digits.validation.images[:])
    assert torch.equal(other.test.images, digits.test.images)


def test_validation_may_come_out_of_the_test_split(digits):
    other = open_data(settings(validation_from="test", validation=0.5), 0)
    assert len(other.train) == len(digits.train) + len(digits.validation)
    assert len(other.validation) + len(other.test) == len(digits.test)
    assert abs(len(other.validation) - len(other.test)) <= 10  # half of each class
    both = torch.cat([split.images[:].flatten(1) for split in (other.validation, other.test)]).long()
    assert both.sum() == digits.test.images[:].long().sum()


def test_statistics_are_those_of_the_training_split(digits):
    pixels = digits.train.images[:].numpy().astype("float64")
    np.testing.assert_allclose(digits.mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(digits.std, pixels.std((0, 2, 3)), rtol=1e-3)
    assert abs(float(digits.normalised(digits.train.images[:]).mean())) < 1e-4


def test_a_zip_archive_and_a_folder_give_the_pixels_that_were_written(images, tmp_path):
    pixels = write_images(images)
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in images.rglob("*.png"):
            file.write(path, path.relative_to(images))
    for path in (images, archive, archive):
        data = open_data(settings(source="folder", path=str(path), validation=0.3), 0)
        assert data.classes == ("cat", "dog") and data.shape == (3, 5, 6)
        expected = np.stack([pixels[n] for n in sorted(pixels) if n.startswith("test")]).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(data.test.images, expected)
        assert data.test.labels.tolist() == [0] * 5 + [1] * 5


def test_class_folders_without_a_test_split_are_split(images):
    write_images(images, splits=("all",), count=10)
    data = open_data(settings(source="folder", path=str(images / "all")), 0)
    assert len(data.test) == 4 and data.test.labels.tolist() == [0, 0, 1, 1]


def test_a_path_is_looked_for_below_netwright_data(images, monkeypatch):
    write_images(images, mode="L")
    monkeypatch.setenv("NETWRIGHT_DATA", str(images.parent))
    assert open_data(settings(source="folder", path="images"), 0).shape == (1, 5, 6)


@pytest.mark.parametrize("spoil, words", [
    (lambda root: (root / "train/cat/9.png").write_bytes(b"no image"), ["train/cat/9.png", "no image"]),
    (lambda root: Image.new("RGB", (9, 9)).save(root / "train/cat/9.png"), ["train/cat/9.png is 9x9", "6x5"]),
    (lambda root: Image.new("L", (6, 5)).save(root / "train/cat/9.png"), ["9.png is 6x5 grey", "RGB"]),
    (lambda root: [(root / f"test/dog/{i}.png").write_bytes(b"") for i in range(3)], ["test/dog/0.png", "3 of 20 images are like that"]),
    (lambda root: [Image.new("RGB", (9, 9)).save(root / f"test/cat/{i}.png") for i in range(2)],
     ["test/cat/0.png is 9x9", "test/cat/2.png is 6x5", "2 of 20 images are like that"]),
    (lambda root: [p.unlink() for p in (root / "train/dog").iterdir()], ["class dog has 0 train images"]),
    (lambda root: [p.unlink() for p in root.rglob("*.png")], ["holds no images", "train/<class>"]),
])
def test_what_is_wrong_with_image_folders_is_named(spoil, words, images):
    write_images(images)
    spoil(images)
    with pytest.raises(DataError) as caught:
        open_data(settings(source="folder", path=str(images)), 0)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_broken_archive_and_a_missing_one_are_named(images, monkeypatch):
    (images / "broken.zip").write_bytes(b"PK not really")
    with pytest.raises(DataError, match="broken.zip is not a zip archive"):
        open_data(settings(source="folder", path=str(images / "broken.zip")), 0)
    monkeypatch.delenv("NETWRIGHT_DATA", raising=False)
    with pytest.raises(DataError, match="'no.zip' does not exist.*NETWRIGHT_DATA.*--set data.path"):
        open_data(settings(source="folder", path="no.zip"), 0)


def test_arrays_of_an_npz_file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (40, 7, 7, 3), dtype=np.uint8), "y_train": np.arange(40) % 4,
              "x_test": rng.integers(0, 256, (8, 7, 7, 3), dtype=np.uint8), "y_test": np.arange(8) % 4}
    np.savez(tmp_path / "d.npz", **arrays)
    data = open_data(settings(source="npz", path=str(tmp_path / "d.npz")), 0)
    np.testing.assert_array_equal(data.test.images, arrays["x_test"].transpose(0, 3, 1, 2))
    del arrays["y_test"]
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(DataError, match="no array y_test"):
        open_data(settings(source="npz", path=str(tmp_path / "e.npz")), 0)


def test_an_epoch_shows_every_image_at_most_once():
    labels = torch.arange(50)
    split = Split(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), labels)
    data = Dataset(split, split, split, ("a",), torch.zeros(1), torch.ones(1), ())
    seen = torch.cat([y for _, y, _ in batches(data, 16, torch.Generator().manual_seed(0))])
    assert len(seen) == len(set(seen.tolist())) == 48


def network(seed=0):
    """A small network for the digits."""
    torch.manual_seed(seed)
    return build(Candidate.parse("conv:16/1 mbconv-expand2:24/2 conv:32/2 classifier:10/1"), (1, 8, 8))


def test_a_small_network_learns_the_digits_and_the_same_seed_gives_the_same_weights(digits):
    first, second = network(), network()
    train(first, digits, FAST, 1)
    train(second, digits, FAST, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    assert evaluate(first, digits.validation, digits) > 0.93


def test_training_that_explodes_says_where(digits):
    model = network()
    torch.nn.init.constant_(model.layers[-1].dense.weight, float("nan"))
    with pytest.raises(Diverged, match="epoch 1, step 1"):
        train(model, digits, FAST, 0)


def test_weight_decay_spares_biases_norms_and_depthwise_filters(digits):
    model = network()
    decayed = {id(p) for p in groups_of(model, 0.1)[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names == {"layers.0.conv.weight", "layers.1.expand.weight", "layers.1.project.weight",
                     "layers.2.conv.weight", "layers.3.dense.weight"}


def test_the_learning_rate_rises_over_a_tenth_and_falls_to_nothing():
    rates = [warmed_cosine(s, 100) for s in range(100)]
    assert max(rates) == rates[9] == 1 and rates[0] == 0.1 and rates[-1] < 0.01
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_warming_gives_batch_norms_the_average_of_what_they_saw(digits):
    model = network()
    warm(model, digits, 64, seed=0, count=5)
    seen = [x for _, (x, *_) in zip(range(5), batches(digits, 64, torch.Generator().manual_seed(0)))]
    expected = torch.stack([model.layers[0].conv(x).mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(model.layers[0].norm.running_mean, expected.detach(), rtol=1e-4, atol=1e-5)


def test_soft_targets_at_a_high_temperature_match_logits():
    """[1], section 2.1: at T = 1000 and centred logits the gradient is (z_s - z_t) / classes, within 1%."""
    student, teacher = (z - z.mean() for z in torch.randn(2, 1, 10, dtype=torch.float64))
    student.requires_grad_(True)
    parse("recipes", "soft_targets-t1000-a1").loss(Batch(torch.tensor([0]), student, teacher)).backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 10, rtol=0.01, atol=1e-4)


def test_soft_targets_is_the_formula_of_the_paper():
    rng = np.random.default_rng(0)
    s, t, labels = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)), np.array([0, 1, 2, 4])

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)
    p, q, hard = softmax(t / 3), softmax(s / 3), softmax(s)
    expected = 0.7 * 9 * (p * np.log(p / q)).sum(1).mean() - 0.3 * np.log(hard[np.arange(4), labels]).mean()
    student, teacher = torch.from_numpy(s), torch.from_numpy(t)
    loss = parse("recipes", "soft_targets-t3-a0.7").loss(Batch(torch.from_numpy(labels), student, teacher))
    assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_decoded_images_are_mapped_from_the_cache_not_held(images):
    write_images(images)
    data = open_data(settings(source="folder", path=str(images)), 0)
    assert isinstance(data.train.images, Rows) and data.train.images.source.shape[0] == len(data.train) + len(data.validation)
    assert isinstance(folder.read(str(images)).train_images, np.memmap)
    assert not list((images.parent / "cache").rglob("*.aside*"))


@given(st.data())
def test_rows_are_read_as_those_of_a_tensor(data):
    source = torch.arange(60).view(10, 2, 3)
    numbers = torch.tensor(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12)))
    rows, copied = Rows(source, numbers), source[numbers]
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, len(numbers) - 1), min_size=1, max_size=5)))
    assert rows.shape == copied.shape and len(rows) == len(copied)
    assert torch.equal(rows[:], copied) and torch.equal(rows[chosen], copied[chosen]) and torch.equal(rows.at(chosen)[:], copied[chosen])
    assert all(map(torch.equal, rows.split(3), copied.split(3)))
