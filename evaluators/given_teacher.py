"""A teacher that the user has: any network that `netwright measure` reads, such as a candidate of an earlier study by its model.pt2."""

import torch
from torch import fx, nn

from evaluators.model import Model, ModelError, load_model
from evaluators.training.data import Dataset


class Given(nn.Module):
    """A network that sees images of a data set as it was trained to: pixels in [0, 1] less `mean`, divided by `std`, by channel; as
    the data set normalises them where these are empty. `layers`: what recipes may watch."""

    def __init__(self, network: nn.Module, dataset: Dataset, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        mine, theirs = ([torch.as_tensor(value).view(-1, 1, 1) for value in pair] for pair in (
            (dataset.mean / 255, dataset.std / 255), (mean or dataset.mean / 255, std or dataset.std / 255)))
        self.register_buffer("scale", mine[1] / theirs[1])
        self.register_buffer("shift", (mine[0] - theirs[0]) / theirs[1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images * self.scale + self.shift)

    @property
    def layers(self) -> list[nn.Module]:
        """The network's layers in order; none of one that takes images one at a time."""
        return list(getattr(self.network, "layers", self.network.children()))


class OneByOne(nn.Module):
    """A network that was traced for a single image, for batches."""

    layers: tuple[nn.Module, ...] = ()

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.network(image) for image in images.split(1)])


def given(settings, dataset: Dataset) -> Given:
    """The network that a study's [teacher] names as `model`, in eval mode. ModelError if it does not fit the data."""
    model = load_model(settings.model, (1, *dataset.shape))
    if model.image.shape[1:] != dataset.shape:
        raise ModelError(f"teacher.model = {settings.model!r} takes images of {'x'.join(map(str, model.image.shape[1:]))}, and the data"
                         f" has {'x'.join(map(str, dataset.shape))}; give a network for these")
    if settings.mean and len(settings.mean) != dataset.shape[0]:
        raise ModelError(f"[teacher] has {len(settings.mean)} numbers as mean, and images have {dataset.shape[0]} channels; give one of"
                         " each")
    images = dataset.normalised(dataset.train.images[:2])
    teacher = Given(_of_many(model, images), dataset, settings.mean, settings.std).eval()
    with torch.no_grad():
        given_shape = tuple(teacher(images).shape)
    if given_shape != (len(images), len(dataset.classes)):
        raise ModelError(f"teacher.model = {settings.model!r} gives {given_shape[1:]} numbers an image, and the data has"
                         f" {len(dataset.classes)} classes; give a network that was trained on these")
    return teacher


@torch.no_grad()
def _of_many(model: Model, images: torch.Tensor) -> nn.Module:
    """The network for batches of any size: itself, the graph of its program without the checks that it sees one image, or image by image,
    whichever comes first that gives of several what it gives of each."""
    own, unchecked = _plain(model.network), _plain(model.program.module(check_guards=False))
    single = OneByOne(own)
    expected = single(images)
    for network in (own, unchecked):
        try:
            found = network(images)
        except (RuntimeError, AssertionError):  # a shape or a guard for one image
            continue
        if found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            return network
    return single


def _plain(network: nn.Module) -> nn.Module:
    """The network; of a program a graph without its hooks and its refusal to be told `eval`."""
    return fx.GraphModule(network, network.graph) if isinstance(network, fx.GraphModule) else network
