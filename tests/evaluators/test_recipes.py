"""Every recipe trains to finite weights, other ones than without it and the same ones again; and each is the formula of its paper."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from evaluators.ensemble import Ensemble
from evaluators.pipeline import Lessons, trained
from evaluators.rungs import Rung
from evaluators.training.data import Dataset, open_data
from evaluators.training.loop import train
from evaluators.training.schedule import Schedule
from spaces.build import build
from spaces.candidate import Candidate
from spaces.gene import load, names, parse
from spaces.recipe import Batch, Run
from spaces.recipes import neuron_selection
from tests.evaluators import utterances

STUDENT = Candidate.parse("conv:8/1 conv:8/2 conv:12/1 classifier:10/1")
TEACHER = Candidate.parse("conv:16/1 conv:24/2 conv:24/1 classifier:10/1")
FAST = Schedule(epochs=3, batch=64, learning_rate=0.1, weight_decay=0.0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data(SimpleNamespace(source="digits", path="", validation=0.2, validation_from="train", augment=["crop"]), 0).part(256, 0)


@pytest.fixture(scope="module")
def teacher(digits):
    torch.manual_seed(1)
    network = build(TEACHER, digits.shape)
    train(network, digits, FAST, 0)
    return network.eval()


@pytest.fixture(scope="module")
def data(digits, tmp_path_factory):
    """By a recipe's name what it can learn from."""
    spoken = utterances.opened(tmp_path_factory.mktemp("spoken"))
    return lambda name: spoken if load("recipes", name).needs_sequences else digits


def weights_after(digits, teacher, *recipes: str) -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = build(STUDENT, digits.shape)
    train(network, digits, FAST, 0, [parse("recipes", token) for token in recipes], teacher)
    return list(network.state_dict().values())


@pytest.mark.parametrize("name", names("recipes"))
def test_a_recipe_trains_to_finite_weights_of_its_own_and_to_the_same_ones_again(name, data, teacher):
    plain, once, again = (weights_after(data(name), teacher, *recipes) for recipes in ([], [name], [name]))
    assert all(torch.isfinite(weight).all() for weight in once)
    assert all(torch.equal(a, b) for a, b in zip(once, again))
    assert not all(torch.equal(a, b) for a, b in zip(once, plain))


@pytest.mark.parametrize("name", names("recipes"))
def test_a_recipe_trains_a_network_with_its_compressions_in_place(name, data, teacher):
    candidate = Candidate.parse(f"conv:8/1 [*=int8] conv:8/2 [*=magnitude] conv:12/1 [*=int8] classifier:10/1 [*=int8] | {name}")
    settings = SimpleNamespace(epochs=4, finetune_epochs=6, batch=64, learning_rate=0.1, finetune_learning_rate=0.02, weight_decay=0.0,
                               optimizer="sgd", schedule="cosine", label_smoothing=0.0, ema=0.0, precision="float32", device="cpu")
    network, _ = trained(candidate, Rung("full", 4), Lessons(data(name), settings, teacher), 0)
    assert torch.isfinite(network(data(name).normalised(data(name).validation.images[:8]))).all()


@pytest.mark.parametrize("centre", ["yes", "no"])
def test_mimicking_logits_is_half_the_squared_distance(centre):
    rng = np.random.default_rng(0)
    student, wanted = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)) + 3
    aim = wanted - wanted.mean(1, keepdims=True) if centre == "yes" else wanted
    loss = parse("recipes", f"logit_mimic-centre_{centre}").loss(Batch(None, torch.from_numpy(student), torch.from_numpy(wanted)))
    assert float(loss) == pytest.approx(0.5 * ((student - aim) ** 2).sum() / 4, rel=1e-12)


def test_an_ensemble_is_mimicked_in_units_of_each_class_deviation():
    """[5]: the mean of the members' logits, standardised by their deviation over the example images."""
    rng, given = np.random.default_rng(3), torch.randn(50, 4, generator=torch.Generator().manual_seed(3))
    members = [torch.nn.Linear(4, 3).eval() for _ in range(3)]
    teacher = Ensemble(members)
    with torch.no_grad():
        logits = np.mean([member(given).numpy() for member in members], axis=0)
    student = rng.normal(size=logits.shape).astype(np.float32)
    hooks = parse("recipes", "ensemble_mimic").hooks(Run(None, teacher, given, 1, 1))
    loss = hooks.loss(Batch(None, torch.from_numpy(student), teacher(given)))
    expected = 0.5 * (((student - logits) / logits.std(0)) ** 2).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("strength", [0.0, 1.0, 6.0])
def test_the_teacher_of_rules_is_the_nearest_distribution_that_keeps_to_them(strength):
    """[3], equation 4: q minimises KL(q || p) + C E_q[1 - r], found here by SciPy."""
    rng = np.random.default_rng(int(strength))
    p, truth = rng.dirichlet(np.ones(5)), rng.random(5)

    def objective(z):
        q = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return (q * np.log(q / p)).sum() + strength * (q * (1 - truth)).sum()
    z = minimize(objective, np.zeros(5), method="BFGS", options={"gtol": 1e-10}).x
    found = parse("recipes", f"logic_rules-c{strength:g}").projected(torch.from_numpy(np.log(p))[None], torch.from_numpy(truth)[None])
    np.testing.assert_allclose(found[0], np.exp(z - z.max()) / np.exp(z - z.max()).sum(), atol=1e-5)


def test_neurons_are_chosen_nearly_as_well_as_by_trying_all_choices():
    """[7]: within 5% of the lowest energy of all choices of 12 neurons, in at least 18 of 20 draws."""
    choices, near = torch.tensor(list(itertools.product([False, True], repeat=12))), 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        unary = torch.rand(12, generator=generator) * 1.2 - 1
        pairs = torch.corrcoef(torch.randn(12, 30, generator=generator) + torch.randn(1, 30, generator=generator)).abs().fill_diagonal_(0)
        best = min(neuron_selection.energy(choice, unary, pairs, 0.1) for choice in choices)
        near += neuron_selection.energy(neuron_selection.select(unary, pairs, 0.1), unary, pairs, 0.1) <= best + 0.05 * abs(best)
    assert near >= 18


def test_a_neuron_that_tells_classes_apart_is_worth_more_than_one_that_follows_the_light():
    labels = torch.arange(200) % 4
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0))
    hidden = torch.stack([labels + 0.1 * noise, labels + 0.1 * noise.flip(0), noise, noise.roll(7)], 1)
    unary, pairs = neuron_selection.potentials(hidden, [hidden + torch.tensor([0.0, 0.0, 0.0, 3.0])], labels)
    assert unary[0] < -0.9 and unary[1] < -0.9 and unary[2] > -0.2 and unary[3] > 0.5
    assert pairs[0, 1] > 0.9 and pairs[0, 2] < 0.3 and pairs.diagonal().abs().sum() == 0


def test_of_neurons_that_say_the_same_one_is_chosen():
    unary, pairs = torch.tensor([-0.9, -0.8, -0.7]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert neuron_selection.select(unary, pairs, 1.0).tolist() == [True, False, True]


def test_rules_count_for_nothing_at_first_and_then_for_more_and_more(digits):
    network = build(STUDENT, digits.shape)
    hooks = parse("recipes", "logic_rules-most0.5-decay0.8").hooks(SimpleNamespace(network=network))
    images, labels = digits.normalised(digits.train.images[:32]), digits.train.labels[:32]
    batch, shares = Batch(labels, network(images), images=images), []
    for epoch in range(6):
        hooks.on_epoch(epoch)
        shares.append(hooks.share)
    assert shares[:4] == pytest.approx([0, 0.2, 0.36, 0.488]) and shares[4:] == [0.5, 0.5]
    hooks.on_epoch(0)
    torch.testing.assert_close(hooks.loss(batch), batch.cross_entropy())
