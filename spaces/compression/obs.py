"""Optimal brain surgeon layer by layer (Hassibi and Stork, 1993 [9]): the weights go whose removal changes the layer's outputs least, and
with each the others move to make up for it.

The loss is the mean over calibration images and places of half the squared error of an output, so that the weights of each output have
the Hessian

    H = mean of x x^T + damping I,

the same for all outputs of a group, with x what meets the weights: a convolution's patches, a dense layer's inputs. Deletions and updates
are `spaces.inverse_hessian`'s; the cheapest weight of the whole layer goes next. Biases stay. Where inputs are more than images, damping
keeps the updates from fitting those images alone. The weights are trained on from the values that the updates give them, and stored as
`magnitude` stores them.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import SPARSIFY, Compression

# Inputs to an output: a Hessian of them is inverted, and an inverse is worked off for each output.
MOST = 1024
# Numbers of all inverses at a time, and images whose patches are laid out at a time.
ENTRIES, IMAGES = 1 << 22, 16


@dataclass(frozen=True)
class OBS(Compression):
    """Removes weights and moves the others; `keep` is the share that stays, `damping` is added to the mean squares of inputs."""

    SOURCE: ClassVar[str] = "Hassibi and Stork, 1993 [9]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values; time where few are kept"
    keep: float = 0.5
    damping: float = 0.01

    def __post_init__(self):
        check_range("obs keep", self.keep, 0.001, 1)
        check_range("obs damping", self.damping, 1e-8, 1)

    def prepare_at(self, site):
        import torch
        from torch.nn.utils import parametrize

        from spaces.prepared import Mask, check_unshared

        check_unshared(site.layer, self)
        layer, inputs = site.layer, site.layer.weight[0].numel()
        if inputs > MOST:
            raise SpaceError(f"{self}: {inputs} inputs to an output; it inverts Hessians of up to {MOST}; take obd or magnitude")
        weight, kept = self._operated(layer.weight.detach().double().flatten(1), self._hessian(site))
        with torch.no_grad():
            layer.weight.copy_(weight.view(layer.weight.shape))
        parametrize.register_parametrization(layer, "weight", Mask(kept.float().view(layer.weight.shape)))
        return layer

    def _hessian(self, site):
        """H of each group, float64 [groups, n, n]. SpaceError if inputs are not finite."""
        import torch

        from spaces.site import unfolded
        from spaces.trace import finite

        total = places = 0
        for given in site.inputs.split(IMAGES):
            patches = unfolded(site.layer, given).double().permute(1, 2, 0, 3).flatten(2)
            total, places = total + patches @ patches.mT, places + patches.shape[2]
        if not finite(total):
            raise SpaceError(f"{self}: the layer's inputs are not finite on the calibration images")
        return total / places + self.damping * torch.eye(total.shape[1], dtype=torch.float64)

    def _operated(self, weight, hessian):
        """The weights [outputs, n] after the operation, and which are kept."""
        import torch

        from spaces.inverse_hessian import cheapest, deletions, inverse_of, refitted

        outputs, inputs = weight.shape
        group, inverse = torch.arange(outputs) // (outputs // len(hessian)), inverse_of(hessian)
        parts = torch.arange(outputs).split(max(1, ENTRIES // inputs**2))
        order, losses = map(torch.cat, zip(*(deletions(inverse[group[part]], weight[part]) for part in parts)))
        kept = cheapest(order, losses, weight.numel() - max(1, round(self.keep * weight.numel())))
        return torch.stack([refitted(hessian[of], row, stays) for of, row, stays in zip(group, weight, kept)]), kept
