"""Optimal brain damage (LeCun, Denker and Solla, 1990 [8]): the weights go whose removal raises the loss least.

At a minimum of the loss the gradient is zero, and with the Hessian taken as diagonal, setting weight k to zero raises the loss by

    s_k = h_kk w_k^2 / 2,

its saliency (equation 5). h_kk is the curvature of the mean cross entropy on calibration images (`spaces.site`), so that the layer should
be trained well before. Of weights of equal saliency, as those that no image ever reaches, the larger stay. The others are trained on
from the values they have; stored as `magnitude` stores them.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, DEPTHWISE, POINTWISE
from spaces.gene import SpaceError, check_range
from spaces.method import SPARSIFY, Compression


@dataclass(frozen=True)
class OBD(Compression):
    """Zeroes the weights of smallest saliency; `keep` is the share that stays."""

    SOURCE: ClassVar[str] = "LeCun et al., 1990 [8]"
    PHASE: ClassVar[int] = SPARSIFY
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DEPTHWISE, DENSE)
    GAIN: ClassVar[str] = "bytes: bitmap and kept values; time where few are kept"
    keep: float = 0.5

    def __post_init__(self):
        check_range("obd keep", self.keep, 0.001, 1)

    def prepare_at(self, site):
        import torch
        from torch.nn.utils import parametrize

        from spaces.prepared import Mask, check_unshared

        check_unshared(site.layer, self)
        larger_first = site.layer.weight.detach().abs().flatten().argsort(descending=True, stable=True)
        order = larger_first[saliency(site).flatten()[larger_first].argsort(descending=True, stable=True)]
        mask = torch.zeros(len(order))
        mask[order[: max(1, round(self.keep * len(order)))]] = 1
        parametrize.register_parametrization(site.layer, "weight", Mask(mask.view(site.layer.weight.shape)))
        return site.layer


def saliency(site):
    """What the loss rises by as each weight of the site's layer alone becomes zero; float64 of the weights' shape. SpaceError if the
    curvature is not finite."""
    from spaces.trace import finite

    if not finite(site.curvature):
        raise SpaceError("obd: the curvature is not finite; the network overflows on the calibration images")
    return site.curvature.double() * site.layer.weight.detach().double().square() / 2
