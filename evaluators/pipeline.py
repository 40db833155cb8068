"""From a candidate to its deployed network: build, train or inherit, compress, train on, freeze.

How long it trains is the rung's (`evaluators.rungs`); those of one rung all get the same number of epochs, the last of them with their
compressions in place, or without where they have none.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.rungs import Rung
from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import before, prepare
from spaces.freeze import freeze
from spaces.recipe import Recipe
from spaces.site import Calibration

if TYPE_CHECKING:
    from evaluators.training.data import Dataset
    from evaluators.training.schedule import Schedule
    from evaluators.training.supernet import Supernet

# A compressed network that is not trained any further recovers on so many images, in batches of at most so many.
RECOVERY, RECOVERY_BATCH = 2560, 64
CALIBRATION = 512  # images that compressions may look at


@dataclass(frozen=True)
class Lessons:
    """What trains a candidate: `settings`, a study's [train] table; `teacher`: a network in eval mode; `supernet`: what the rungs that
    inherit inherit from, or `own`: the weights of the network that the user has; `recovery`: the images on which they recover from
    compression; `folder`: where training is kept, so that a killed run goes on from there."""

    dataset: "Dataset"
    settings: Any
    teacher: Any = None
    supernet: "Supernet | None" = None
    own: dict[str, Any] | None = None
    recovery: "Dataset | None" = None
    folder: Path | None = None


def trained(candidate: Candidate, rung: Rung, lessons: Lessons, seed: int):
    """The deployed network (an fx.GraphModule) and the seconds spent on training. SpaceError or Diverged if the candidate cannot
    be."""
    import torch

    from evaluators.training.loop import warm

    torch.manual_seed(seed)
    network, seconds = _begun(candidate, rung, lessons, seed), 0.0
    if rung.epochs:
        seconds += _dense(network, candidate, rung, lessons, seed)
    if compressed(candidate):
        warmed = partial(warm, dataset=lessons.dataset, batch=lessons.settings.batch, seed=seed)
        network = prepare(network, candidate.chains, calibration(lessons.dataset, seed), warmed)
    seconds += _compressed(network, candidate, rung, lessons, seed + 1)
    return freeze(network), seconds


def _begun(candidate: Candidate, rung: Rung, lessons: Lessons, seed: int):
    """The network with random weights, or inherited ones; one that the user has, with its own."""
    from evaluators.training.supernet import inherit

    if rung.inherits and lessons.own is None:
        return inherit(lessons.supernet, candidate, lessons.dataset, lessons.settings.batch, seed)
    network = build(candidate, lessons.dataset.shape)
    if rung.inherits:
        network.load_state_dict(lessons.own)
    return network


def calibration(dataset: "Dataset", seed: int) -> Calibration:
    """Some training images, as they are."""
    few = dataset.part(CALIBRATION, seed).train
    return Calibration(dataset.normalised(few.images[:]), few.labels)


def _dense(network, candidate: Candidate, rung: Rung, lessons: Lessons, seed: int) -> float:
    schedule = schedule_of(lessons.settings, rung.epochs, lessons.settings.learning_rate)
    return _train(network, candidate, rung, lessons, "dense", schedule, seed)


def _compressed(network, candidate: Candidate, rung: Rung, lessons: Lessons, seed: int) -> float:
    """The training after compression: some epochs, or few images if it only has to recover."""
    settings = lessons.settings
    recovers = rung.kind == "inherit"
    schedule = schedule_of(settings, 1 if recovers else settings.finetune_epochs, settings.finetune_learning_rate)
    if not recovers:
        return _train(network, candidate, rung, lessons, "fine", schedule, seed)
    # All recover on the same images in the same order, so that what differs is their own.
    few = replace(lessons, dataset=lessons.recovery, folder=None)
    return _train(network, candidate, rung, few, "recovered", replace(schedule, batch=min(schedule.batch, RECOVERY_BATCH)), 0)


def recovery(dataset: "Dataset", teacher, seed: int) -> "Dataset":
    """Few training images, as they are, and what the teacher gives of them: asked once, for all candidates."""
    from evaluators.training.loop import logits_of

    few = replace(dataset.part(RECOVERY, seed), augment=())
    return replace(few, taught=logits_of(teacher, few.train.images, few))


def _train(network, candidate: Candidate, rung: Rung, lessons: Lessons, phase: str, schedule: "Schedule", seed: int) -> float:
    from evaluators.training.loop import train

    recipes = taught(candidate) if rung.inherits else candidate.recipes
    if phase == "dense":
        recipes = (*recipes, *before(candidate.chains))
    kept = _kept(lessons.folder, phase, f"{candidate} {rung} {seed} {schedule}")
    return train(network, lessons.dataset, schedule, seed, recipes, lessons.teacher, kept)


def taught(candidate: Candidate) -> tuple[Recipe, ...]:
    """The recipes of inherited weights: the candidate's own, and soft targets where none of them has a teacher."""
    from spaces.gene import parse

    if any(recipe.needs_teacher for recipe in candidate.recipes):
        return candidate.recipes
    return (*candidate.recipes, parse("recipes", "soft_targets"))


def _kept(folder: Path | None, phase: str, key: str):
    from evaluators.training.checkpoint import Checkpoint

    return Checkpoint(folder / f"{phase}.safetensors", key) if folder else None


def schedule_of(settings, epochs: int, learning_rate: float):
    """The schedule of a [train] table, for so many epochs at that rate."""
    from evaluators.training.schedule import Schedule

    return Schedule(epochs, settings.batch, learning_rate, settings.weight_decay, settings.optimizer, settings.schedule,
                    settings.label_smoothing, settings.ema, settings.precision, settings.device)


def untrained(candidate: Candidate, dataset, settings):
    """The deployed network with random weights: its shapes and bytes, if they do not depend on values."""
    from evaluators.training.loop import warm

    network = build(candidate, dataset.shape)
    if compressed(candidate):
        network = prepare(network, candidate.chains, calibration(dataset, 0), lambda n: warm(n, dataset, settings.batch, 0, count=1))
    return freeze(network)


def compressed(candidate: Candidate) -> bool:
    """Whether any layer is compressed."""
    return bool(candidate.chains)


def shapes_fixed(candidate: Candidate) -> bool:
    """Whether the network's shapes and bytes are known before it is trained."""
    return all(method.shapes_fixed for chain in candidate.chains.values() for method in chain)


def adapted(network, dataset, training, epochs: int, seed: int, folder: Path):
    """The network that the user has after so many epochs on the study's data at the rate of its [train] table; `folder` as for `trained`."""
    from evaluators.training.loop import train

    if epochs:
        train(network, dataset, schedule_of(training, epochs, training.learning_rate), seed,
              checkpoint=_kept(folder, "dense", f"{seed} {epochs} {training}"))
    return network.eval()


def teacher(settings, dataset, training, seed: int, folder: Path | None = None):
    """The trained teacher of a study's [teacher] table, in eval mode; `folder` as for `trained`."""
    import torch

    from evaluators.training.loop import train

    torch.manual_seed(seed)
    network = build(Candidate.parse(settings.candidate), dataset.shape)
    schedule = schedule_of(training, settings.epochs, training.learning_rate)
    train(network, dataset, schedule, seed, checkpoint=_kept(folder, "dense", f"{settings} {seed} {training}"))
    return network.eval()
