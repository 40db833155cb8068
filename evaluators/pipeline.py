"""From a candidate to its deployed network: build, train, compress, train on, freeze.

Every candidate gets the same number of epochs: `epochs` dense, then `finetune_epochs` with its
compressions in place, or dense again where it has none.
"""

from pathlib import Path

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze


def trained(candidate: Candidate, dataset, settings, seed: int, teacher=None, folder: Path | None = None):
    """The deployed network (an fx.GraphModule) and the seconds spent on training.

    settings: a study's [train] table; folder: where training is kept, so that a killed run goes on from there. SpaceError or Diverged
    if the candidate cannot be.
    """
    import torch

    from evaluators.training.loop import train, warm

    key = f"{candidate} {seed} {settings}"
    torch.manual_seed(seed)
    network, recipes = build(candidate, dataset.shape), candidate.recipes
    dense = schedule_of(settings, settings.epochs, settings.learning_rate)
    fine = schedule_of(settings, settings.finetune_epochs, settings.finetune_learning_rate)
    seconds = train(network, dataset, dense, seed, recipes, teacher, _kept(folder, "dense", key))
    if compressed(candidate):
        example = dataset.normalised(dataset.train.images[:2])
        network = prepare(network, candidate, example, lambda n: warm(n, dataset, settings.batch, seed))
    seconds += train(network, dataset, fine, seed + 1, recipes, teacher, _kept(folder, "fine", key))
    return freeze(network), seconds


def _kept(folder: Path | None, phase: str, key: str):
    from evaluators.training.checkpoint import Checkpoint

    return Checkpoint(folder / f"{phase}.safetensors", key) if folder else None


def schedule_of(settings, epochs: int, learning_rate: float):
    """The schedule of a [train] table, for so many epochs at that rate."""
    from evaluators.training.schedule import Schedule

    return Schedule(epochs, settings.batch, learning_rate, settings.weight_decay, settings.optimizer, settings.schedule,
                    settings.label_smoothing, settings.ema, settings.precision)


def untrained(candidate: Candidate, dataset, settings):
    """The deployed network with random weights: its shapes and bytes, if they do not depend on values."""
    from evaluators.training.loop import warm

    network = build(candidate, dataset.shape)
    example = dataset.normalised(dataset.train.images[:2])
    if compressed(candidate):
        network = prepare(network, candidate, example, lambda n: warm(n, dataset, settings.batch, 0, count=1))
    return freeze(network)


def compressed(candidate: Candidate) -> bool:
    """Whether any layer is compressed."""
    return any(layer.compressions for layer in candidate.layers)


def shapes_fixed(candidate: Candidate) -> bool:
    """Whether the network's shapes and bytes are known before it is trained."""
    return all(method.shapes_fixed for layer in candidate.layers for _, chain in layer.compressions for method in chain)


def teacher(settings, dataset, training, seed: int, folder: Path | None = None):
    """The trained teacher of a study's [teacher] table, in eval mode; `folder` as for `trained`."""
    import torch

    from evaluators.training.loop import train

    torch.manual_seed(seed)
    network = build(Candidate.parse(settings.candidate), dataset.shape)
    schedule = schedule_of(training, settings.epochs, training.learning_rate)
    train(network, dataset, schedule, seed, checkpoint=_kept(folder, "dense", f"{settings} {seed} {training}"))
    return network.eval()
