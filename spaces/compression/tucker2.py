"""Tucker-2 decomposition of every layer, with ranks found by variational Bayes (Kim et al., 2016 [68]).

A convolution's weights become W[n, c, y, x] ~ sum_pq G[p, q, y, x] A[n, p] B[c, q]: a 1x1 to Q maps, a convolution of the layer's
geometry from Q to P, a 1x1 to the outputs. That is C Q + d^2 Q P + P N weights, and as many multiplications a place. P and Q are the
ranks of W unfolded along its outputs and along its inputs (`spaces.evbmf`), or a given share of them; the factors come from higher-order
orthogonal iteration (De Lathauwer et al., 2000). Only channels are decomposed; where all of a mode are kept, so is its part of the core.
A layer that reads the images is decomposed along its outputs alone (Tucker-1), and so are matrices, of which both modes have one rank: that
is a singular value decomposition. The layer stays dense where the parts would not be smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import CONV, DENSE, POINTWISE
from spaces.gene import check_range
from spaces.method import FACTORISE, Compression

TOLERANCE, ITERATIONS = 1e-9, 100  # of the iteration: the least change of the relative error


@dataclass(frozen=True)
class Tucker2(Compression):
    """Small convolutions between 1x1 ones, of ranks found by variational Bayes.

    `ratio`: the share of each mode's channels that is kept instead, where it is not 0; `weaken`: how much of what variational Bayes would
    remove is removed.
    """

    SOURCE: ClassVar[str] = "Kim et al., 2016 [68]; Nakajima et al., 2013"
    PHASE: ClassVar[int] = FACTORISE
    APPLIES: ClassVar[tuple[str, ...]] = (POINTWISE, CONV, DENSE)
    GAIN: ClassVar[str] = "bytes and time: a smaller dense convolution between two 1x1 ones"
    SETTINGS: ClassVar[tuple[str, ...]] = ("tucker2-ratio0.7", "tucker2-ratio0.5", "tucker2-ratio0.25", "tucker2-ratio0.1")
    ratio: float = 0.0
    weaken: float = 1.0

    def __post_init__(self):
        check_range("tucker2 ratio", self.ratio, 0, 1)
        check_range("tucker2 weaken", self.weaken, 0.1, 1)

    @property
    def shapes_fixed(self) -> bool:
        return self.ratio > 0

    def prepare(self, layer):
        return self._decomposed(layer, reads_images=False)

    def prepare_at(self, site):
        node = next(node for node in site.network.graph.nodes if node.target == site.path)
        return self._decomposed(site.layer, reads_images=node.args[0].op == "placeholder")

    def _decomposed(self, layer, reads_images: bool):
        from spaces.factors import whole_weight

        weight = whole_weight(layer, self)
        outputs, inputs = (self._rank(weight.transpose(0, mode).flatten(1)) for mode in (0, 1))
        if weight[0, 0].numel() == 1:
            from spaces.compression.svd import SVD

            return SVD(rank=min(outputs, inputs)).prepare(layer)
        return _in_a_row(layer, *tucker(weight, outputs, weight.shape[1] if reads_images else inputs))

    def _rank(self, unfolding) -> int:
        """Of the channels that an unfolding [channels, ...] has as rows, how many stay; at least 1."""
        from spaces.evbmf import rank_of

        channels = len(unfolding)
        if self.ratio:
            return max(1, round(self.ratio * channels))
        return max(1, channels - round(self.weaken * (channels - rank_of(unfolding.numpy()))))


def tucker(weight, outputs: int, inputs: int):
    """The core [P, Q, height, width] and the factors [N, P] and [C, Q], of P = `outputs` and Q = `inputs`, fewer where the other mode and
    the kernel leave no more; None for a factor that keeps all, which is part of the core. `weight`: float64 [N, C, height, width]."""
    import torch
    from tensorly.decomposition import partial_tucker

    area = weight[0, 0].numel()
    outputs = min(outputs, inputs * area)
    wanted = {0: outputs, 1: min(inputs, outputs * area)}
    modes = [mode for mode, rank in wanted.items() if rank < weight.shape[mode]]
    factors = {0: None, 1: None}
    if modes:
        (weight, found), _ = partial_tucker(weight.numpy(), [wanted[mode] for mode in modes], modes=modes, n_iter_max=ITERATIONS,
                                            tol=TOLERANCE, random_state=0)
        factors |= {mode: torch.from_numpy(factor) for mode, factor in zip(modes, found)}
    return torch.as_tensor(weight), factors[0], factors[1]


def _in_a_row(layer, core, outputs, inputs):
    from spaces.factors import HEIGHT, WIDTH, Factor, in_a_row

    first = [] if inputs is None else [Factor(inputs.T[..., None, None])]
    last = [] if outputs is None else [Factor(outputs[..., None, None])]
    return in_a_row(layer, *first, Factor(core, (HEIGHT, WIDTH)), *last)
