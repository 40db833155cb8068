"""Published networks as plain torch modules: what compiled code is measured on, and a start for searches.

One file adds one network: `network(size, classes)` for images of `size` x `size`. At 32x32 the stem has
stride 1, as is usual for small images.
"""

import importlib
import pkgutil

from spaces.gene import SpaceError


def names() -> list[str]:
    """Every network, sorted, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def network(name: str, size: int, classes: int):
    """The network of that name for images [N, 3, size, size] to logits [N, classes], in eval mode.

    Weights are random (He et al., 2015), so that activations keep their size from layer to layer, and batch norms
    hold the statistics of random images. SpaceError names the known networks.
    """
    import torch

    if name not in names():
        raise SpaceError(f"unknown network {name!r}; known: {', '.join(names())}")
    torch.manual_seed(0)
    made = importlib.import_module(f"spaces.zoo.{name}").network(size, classes)
    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return settled(made, torch.randn(4, 3, size, size))


def settled(network, images):
    """The network in eval mode; its batch norms hold the statistics of the images."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches instead of a moving one
    with torch.no_grad():
        network.train()(images)
    return network.eval()
