"""From a candidate to its deployed network: build, train, compress, train on, freeze.

Every candidate gets the same number of epochs: `epochs` dense, then `finetune_epochs` with its
compressions in place, or dense again where it has none.
"""

from spaces.build import build
from spaces.candidate import Candidate
from spaces.compress import prepare
from spaces.freeze import freeze


def trained(candidate: Candidate, dataset, settings, seed: int, teacher=None):
    """The deployed network (an fx.GraphModule) and the seconds spent on training.

    settings: a study's [train] table. SpaceError or Diverged if the candidate cannot be.
    """
    import torch

    from evaluators.training.loop import Schedule, train, warm

    torch.manual_seed(seed)
    network, recipes = build(candidate, dataset.shape), candidate.recipes
    dense = Schedule(settings.epochs, settings.batch, settings.learning_rate, settings.weight_decay)
    fine = Schedule(settings.finetune_epochs, settings.batch, settings.finetune_learning_rate, settings.weight_decay)
    seconds = train(network, dataset, dense, seed, recipes, teacher)
    if compressed(candidate):
        example = dataset.normalised(dataset.train.images[:2])
        network = prepare(network, candidate, example, lambda n: warm(n, dataset, settings.batch, seed))
    seconds += train(network, dataset, fine, seed + 1, recipes, teacher)
    return freeze(network), seconds


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


def teacher(settings, dataset, training, seed: int):
    """The trained teacher of a study's [teacher] table, in eval mode."""
    import torch

    from evaluators.training.loop import Schedule, train

    torch.manual_seed(seed)
    network = build(Candidate.parse(settings.candidate), dataset.shape)
    schedule = Schedule(settings.epochs, training.batch, training.learning_rate, training.weight_decay)
    train(network, dataset, schedule, seed)
    return network.eval()
