"""Training runs: what schedules, recipes and checkpoints do to them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.training import checkpoint as checkpoints
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import logits_of, train
from evaluators.training.schedule import Schedule, optimiser_of, pace_of
from spaces.gene import SpaceError, parse
from spaces.recipe import Batch, Hooks, Run
from tests.evaluators.test_training import FAST, network, settings

SHORT = replace(FAST, epochs=3)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = open_data(settings(augment=["crop", "mixup"]), 0)
    return replace(data, train=type(data.train)(data.train.images[:256], data.train.labels[:256]))


class Recording(Hooks):
    """Counts what the loop calls; adds a penalty; stops the run at an epoch; another stage begins at each of `stages`."""

    def __init__(self, stop_at: int | None = None, stages: tuple[int, ...] = ()):
        self.calls, self.stop_at, self.stages = [], stop_at, lambda: stages

    def penalty(self):
        return 0.25

    def on_epoch(self, epoch):
        self.calls.append(("epoch", epoch))
        if epoch == self.stop_at:
            raise KeyboardInterrupt

    def on_step(self, step):
        self.calls.append(("step", step))

    def close(self):
        self.calls.append(("close", 0))


class Given:
    """A recipe with these hooks."""

    def __init__(self, hooks):
        self.hooks = lambda run: hooks


def test_hooks_are_called_before_each_epoch_and_after_each_step_and_at_the_end(digits):
    hooks = Recording()
    train(network(), digits, SHORT, 0, [Given(hooks)])
    steps = [("step", i) for i in range(12)]
    assert hooks.calls == [("epoch", 0), *steps[:4], ("epoch", 1), *steps[4:8], ("epoch", 2), *steps[8:], ("close", 0)]


SCHEDULES = {"sgd": SHORT, "adamw, one cycle": replace(SHORT, optimizer="adamw", pace="one_cycle", learning_rate=0.01),
             "mean of weights, smoothed labels": replace(SHORT, ema=0.9, smoothing=0.1), "bfloat16": replace(SHORT, precision="bfloat16")}


@pytest.mark.parametrize("stop_at", [1, 2])
@pytest.mark.parametrize("name", SCHEDULES)
def test_an_interrupted_run_goes_on_to_the_same_weights(name, stop_at, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    whole, begun, resumed = network(), network(), network(seed=7)
    torch.manual_seed(5)
    train(whole, digits, SCHEDULES[name], 1)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(begun, digits, SCHEDULES[name], 1, [Given(Recording(stop_at))], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    torch.manual_seed(99)
    rest = Recording()
    train(resumed, digits, SCHEDULES[name], 1, [Given(rest)], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    assert rest.calls[0] == ("epoch", stop_at)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_run_of_two_stages_goes_on_to_the_same_weights(stop_at, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    whole, resumed, stages = network(), network(seed=7), (1,)
    torch.manual_seed(5)
    train(whole, digits, SHORT, 1, [Given(Recording(stages=stages))])
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(network(), digits, SHORT, 1, [Given(Recording(stop_at, stages))], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    train(resumed, digits, SHORT, 1, [Given(Recording(stages=stages))], checkpoint=Checkpoint(tmp_path / "run.safetensors", "a"))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))


class Watching(torch.nn.Identity):
    """A module that takes part in the training of its network."""

    def hooks(self, run):
        self.told = Recording()
        return self.told


def test_a_module_of_the_network_takes_part_in_its_training(digits):
    watched = torch.nn.Sequential(network(), Watching())
    train(watched, digits, SHORT, 0)
    alone = Recording()
    train(network(), digits, SHORT, 0, [Given(alone)])
    assert watched[1].told.calls == alone.calls and alone.calls


def test_two_stages_are_trained_as_two_runs(digits, monkeypatch):
    samples = [torch.arange(i, 256, 4) for i in range(4)]
    images = [(digits.normalised(digits.train.images[chosen]), digits.train.labels[chosen], chosen) for chosen in samples]
    monkeypatch.setattr("evaluators.training.loop.batches", lambda *_: iter(images))
    staged, apart = network(), network()
    train(staged, digits, SHORT, 0, [Given(Recording(stages=(1,)))])
    for epochs in (1, 2):
        train(apart, digits, replace(SHORT, epochs=epochs), 0)
    assert all(torch.equal(a, b) for a, b in zip(staged.state_dict().values(), apart.state_dict().values()))


@pytest.mark.parametrize("recipe", ["hints-stage0.5", "neuron_selection-stage0.5"])
def test_recipes_of_two_stages_name_the_second(recipe, digits):
    assert taught(digits, recipe)[1].stages() == (5,)


def test_a_teacher_may_have_been_asked_before(digits):
    teacher, told, asked, still = network(3).eval(), network(), network(), replace(digits, augment=())
    train(told, replace(still, taught=logits_of(teacher, still.train.images, still)), SHORT, 0, [parse("recipes", "soft_targets")])
    train(asked, still, SHORT, 0, [parse("recipes", "soft_targets")], teacher)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(told.state_dict().values(), asked.state_dict().values()))


def test_a_part_of_the_images_keeps_what_the_teacher_said_of_them(digits):
    whole = replace(digits, taught=digits.train.images[:].flatten(1).float())
    part = whole.part(20, 3)
    assert len(part.train) == 20 and torch.equal(part.taught, part.train.images[:].flatten(1).float())


def test_a_checkpoint_of_another_run_or_a_broken_one_is_not_read(tmp_path):
    file = tmp_path / "run.safetensors"
    Checkpoint(file, "a").write({"x": torch.ones(3)}, {"epoch": 4})
    assert Checkpoint(file, "a").read()[1] == {"epoch": 4} and Checkpoint(file, "b").read() is None
    file.write_bytes(file.read_bytes()[:40])
    assert Checkpoint(file, "a").read() is None


def test_the_running_mean_is_that_of_the_weights_after_each_step(digits):
    mean, plain, seen = network(), network(), []

    class Watching(Hooks):
        def on_step(self, step):
            seen.append(plain.state_dict()["layers.0.conv.weight"].clone())
    train(mean, digits, replace(SHORT, ema=0.8), 0)
    train(plain, digits, SHORT, 0, [Given(Watching())])
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.8 * expected + 0.2 * weight
    torch.testing.assert_close(mean.state_dict()["layers.0.conv.weight"], expected, rtol=1e-4, atol=1e-6)


def test_smoothed_labels_are_the_mean_with_all_classes():
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    logs = logits.log_softmax(1)
    expected = -(0.9 * logs[torch.arange(6), labels] + 0.1 * logs.mean(1)).mean()
    torch.testing.assert_close(Batch(labels, logits, smoothing=0.1).cross_entropy(), expected)


def test_one_cycle_rises_to_the_highest_rate_and_falls_below_the_first():
    schedule, model = Schedule(1, 2, 0.3, 0.0, pace="one_cycle"), network()
    optimiser = optimiser_of(model, [], schedule)
    pace, rates = pace_of(optimiser, schedule, 50), []
    for _ in range(50):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        pace.step()
    assert max(rates) == pytest.approx(0.3) and rates.index(max(rates)) == 14 and rates[-1] < rates[0] < 0.3


def taught(digits, recipe: str, teacher_seed: int = 3):
    """A student's run, and its hooks."""
    run = Run(network(), network(teacher_seed).eval(), digits.normalised(digits.train.images[:8]), 10, 40, digits.train.labels[:8])
    return run, parse("recipes", recipe).hooks(run)


def test_hints_train_the_student_up_to_its_guided_layer_alone_and_then_all_of_it(digits):
    run, hooks = taught(digits, "hints")
    images, labels = digits.normalised(digits.train.images[:8]), digits.train.labels[:8]
    hooks.on_epoch(0)
    loss = hooks.loss(Batch(labels, run.network(images), run.teacher(images)))
    loss.backward()
    guided = {name: p.grad is not None for name, p in run.network.named_parameters()}
    assert all(has == (name.split(".")[1] in "012") for name, has in guided.items()), guided
    with torch.no_grad():
        maps, hint = images, images
        for mine, theirs in zip(run.network.layers[:3], run.teacher.layers[:3]):
            maps, hint = mine.eval()(maps), theirs(hint)
    assert hooks.regressor(maps).shape == hint.shape
    hooks.on_epoch(2)
    hooks.loss(Batch(labels, run.network(images), run.teacher(images))).backward()
    assert all(p.grad is not None for p in run.network.parameters())
    assert not run.network.layers[2]._forward_hooks and not run.teacher.layers[2]._forward_hooks


def test_the_distilled_loss_of_hints_is_the_formula_of_the_paper_and_its_weight_falls_to_one(digits):
    recipe = parse("recipes", "hints-t2-weight4")
    rng = np.random.default_rng(0)
    s, t, labels = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)), np.array([0, 1, 2, 4])

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)
    soft = (softmax(t / 2) * np.log(softmax(t / 2) / softmax(s / 2))).sum(1).mean()
    hard = -np.log(softmax(s)[np.arange(4), labels]).mean()
    batch = Batch(torch.from_numpy(labels), torch.from_numpy(s), torch.from_numpy(t))
    assert float(recipe.distilled(batch, 3.0)) == pytest.approx((hard + 3 * 2**2 * soft) / (1 + 3), rel=1e-9)
    _, hooks = taught(digits, "hints-t2-weight4")
    for epoch, weight in ((2, 4), (9, 1)):
        hooks.on_epoch(epoch)
        assert float(hooks.loss(batch)) == pytest.approx(float(recipe.distilled(batch, weight)))


@pytest.mark.parametrize("epochs, share, first", [(8, 0.2, 2), (10, 0.5, 5), (2, 0.9, 1), (1, 0.9, 0), (4, 0.1, 0)])
def test_a_first_stage_leaves_an_epoch_for_the_second(epochs, share, first):
    assert Run(network(), None, None, epochs, 1).first_stage(share) == first


def test_the_loss_of_hints_is_half_the_squared_distance_from_what_a_regressor_tells_which_begins_at_zero(digits):
    run, hooks = taught(digits, "hints")
    run.network.eval()(run.example), run.teacher(run.example)
    guided, hint = (hooks.maps[name].detach().numpy() for name in ("guided", "hint"))
    batch = Batch(digits.train.labels[:8], None)
    assert hooks.loss(batch).item() == pytest.approx(0.5 * np.mean((hint**2).sum(1)), rel=1e-4)
    torch.nn.init.normal_(hooks.regressor.weight)
    told = hooks.regressor(torch.from_numpy(guided)).detach().numpy()
    assert hooks.loss(batch).item() == pytest.approx(0.5 * np.mean(((hint - told) ** 2).sum(1)), rel=1e-4)


def test_a_student_whose_maps_are_smaller_than_every_hint_is_refused(digits):
    import spaces.build
    from spaces.candidate import Candidate

    student = spaces.build.build(Candidate.parse("conv:16/4 conv:16/2 conv:16/1 classifier:10/1"), (1, 8, 8))
    run = Run(student, network().eval(), digits.normalised(digits.train.images[:2]), 10, 40)
    with pytest.raises(SpaceError, match="maps as small as the student's 1x1"):
        parse("recipes", "hints").hooks(run)


def test_a_run_with_hints_ends_with_finite_weights(digits):
    model = network()
    train(model, replace(digits, augment=("crop",)), replace(SHORT, epochs=5, learning_rate=0.05), 0, [parse("recipes", "hints")],
          network(3).eval())
    assert all(math.isfinite(float(p.abs().max())) for p in model.parameters())


def test_whole_numbers_stay_as_they_are_where_weights_are_averaged(digits):
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    layers.register_buffer("codes", torch.arange(256, dtype=torch.uint8))
    train(layers, digits, replace(SHORT, ema=0.9), 0)
    assert torch.equal(layers.codes, torch.arange(256, dtype=torch.uint8))
