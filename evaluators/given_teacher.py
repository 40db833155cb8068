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
        """The network's layers in order; none of an exported program."""
        return list(getattr(self.network, "layers", self.network.children()))


def given(settings, dataset: Dataset) -> Given:
    """The network that a study's [teacher] names as `model`, in eval mode. ModelError if it does not fit the data."""
    model = load_model(settings.model, (1, *dataset.shape))
    if model.image.shape[1:] != dataset.shape:
        raise ModelError(f"teacher.model = {settings.model!r} takes images of {'x'.join(map(str, model.image.shape[1:]))}, and the data"
                         f" has {'x'.join(map(str, dataset.shape))}; give a network for these")
    if settings.mean and len(settings.mean) != dataset.shape[0]:
        raise ModelError(f"[teacher] has {len(settings.mean)} numbers as mean, and images have {dataset.shape[0]} channels; give one of"
                         " each")
    teacher = Given(_of_many(model), dataset, settings.mean, settings.std).eval()
    with torch.no_grad():
        given_shape = tuple(teacher(dataset.normalised(dataset.train.images[:2])).shape)
    if given_shape != (2, len(dataset.classes)):
        raise ModelError(f"teacher.model = {settings.model!r} gives {given_shape[1:]} numbers an image, and the data has"
                         f" {len(dataset.classes)} classes; give a network that was trained on these")
    return teacher


def _of_many(model: Model) -> nn.Module:
    """The network for batches of any size. An exported program was traced for one image, and checks that it sees one: the same graph
    without the checks takes as many as come."""
    if not isinstance(model.network, fx.GraphModule):
        return model.network
    unchecked = model.program.module(check_guards=False)
    return fx.GraphModule(unchecked, unchecked.graph)
