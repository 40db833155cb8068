"""How much a network minds what is done to one layer of it (Li et al., 2017, section 3.2, for filters), all others as they are.

Nothing is trained: batch norms and ranges are seen anew, those of the network as it is, too, and some validation images show what changed.
`divergence` is the mean Kullback-Leibler divergence from the network's own classes, in nats (as Cai et al., "ZeroQ", 2020): smoother than
accuracy, and taken as additive over layers.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from evaluators.training.data import Dataset
from spaces.candidate import Candidate, Chain, Layer, chain_text
from spaces.gene import SpaceError

IMAGES, WARM_BATCHES, WARM_IMAGES = 1000, 2, 128


@dataclass(frozen=True)
class Effect:
    """Of `chain` in `role` alone: `points` of accuracy lost, `divergence`; how many bytes and multiply-accumulates are left of the whole
    network's."""

    role: str
    chain: Chain
    points: float
    divergence: float
    stored_bytes: int
    macs: int


@dataclass(frozen=True)
class Sensitivity:
    """Of the network of `layer`. `dense`: uncompressed, of accuracy `accuracy` on the images that were looked at."""

    layer: Layer
    dense: Effect
    accuracy: float
    effects: tuple[Effect, ...]

    @property
    def roles(self) -> list[str]:
        """Those for which something is known, in order."""
        return list(dict.fromkeys(effect.role for effect in self.effects))

    def of(self, role: str) -> list[Effect]:
        """What is known of a role: first that nothing is done."""
        return [replace(self.dense, role=role), *(effect for effect in self.effects if effect.role == role)]


def sensitivity(layer: Layer, weights: dict[str, torch.Tensor], chains: Mapping[str, list[Chain]], dataset: Dataset,
                told: Callable[[str], None]) -> Sensitivity:
    """The effect of each chain in each role of a head, uncompressed, with such weights. A chain that a layer cannot have is left out.
    told: called with what was tried, and with why it was left out."""
    # Drawn, since images may lie in the order of their classes.
    drawn = torch.randperm(len(dataset.validation), generator=torch.Generator().manual_seed(0))[:IMAGES]
    look, effects = _Look(layer, weights, replace(dataset, validation=dataset.validation.at(drawn))), []
    for role, chain in ((role, chain) for role, offered in chains.items() for chain in offered if chain):
        try:
            effects.append(look.effect(role, chain))
            told(f"{role} {chain_text(chain)}")
        except SpaceError as error:
            told(f"{role} {chain_text(chain)} is left out: {error}")
    return Sensitivity(layer, look.dense, look.accuracy, tuple(effects))


class _Look:
    """The network as it is, and what it gives of the images."""

    def __init__(self, layer: Layer, weights: dict[str, torch.Tensor], dataset: Dataset):
        from evaluators.pipeline import calibration
        from evaluators.training.loop import logits_of
        from spaces.freeze import freeze

        self.layer, self.weights, self.dataset = layer, weights, dataset
        self.calibration = calibration(dataset, 0)
        network = self._network(Candidate((layer,)))
        self._warm(network)
        self.logits = logits_of(network.eval(), dataset.validation.images, dataset)
        self.accuracy = dataset.validation.accuracy(self.logits)
        self.dense = Effect("", (), 0.0, 0.0, *self._counted(freeze(network), ()))

    def _network(self, candidate: Candidate) -> nn.Module:
        from spaces.build import build

        network = build(candidate, self.dataset.shape)
        network.load_state_dict(self.weights)
        return network

    def _warm(self, network: nn.Module) -> None:
        from evaluators.training.loop import warm

        warm(network, self.dataset, WARM_IMAGES, 0, WARM_BATCHES)

    def effect(self, role: str, chain: Chain) -> Effect:
        """What one chain does. SpaceError if it cannot be done."""
        from evaluators.training.loop import logits_of
        from spaces.compress import coded, prepare
        from spaces.freeze import freeze

        candidate = Candidate((replace(self.layer, compressions=((role, chain),)),))
        prepared = prepare(self._network(candidate), candidate.chains, self.calibration, self._warm)
        logits = logits_of(prepared.eval(), self.dataset.validation.images, self.dataset)
        ours, theirs = logits.log_softmax(1), self.logits.log_softmax(1)
        divergence = float((theirs.exp() * (theirs - ours)).sum(1).mean())
        points = 100 * (self.accuracy - self.dataset.validation.accuracy(logits))
        return Effect(role, chain, points, divergence, *self._counted(freeze(prepared), coded(candidate.chains)))

    def _counted(self, frozen, coded: tuple[str, ...]) -> tuple[int, int]:
        """Stored bytes and multiply-accumulates."""
        from spaces.huffman import stored_bytes
        from spaces.unpacked import reads

        tensors = {name: tensor.numpy() for name, tensor in frozen.state_dict().items()}
        image = self.dataset.normalised(self.dataset.validation.images[:1])
        macs = sum(read.weight.numel() * read.out[0, 0].numel() for read in reads(frozen, image))
        return sum(stored_bytes(tensors, coded).values()), macs


def mixtures(found: Sensitivity, count: int) -> Iterator[dict[str, Chain]]:
    """Up to `count` different choices of a chain for each role, from mild to strong, as effects add up: those of least divergence for what
    they save, half of them in bytes, half in bytes and multiply-accumulates (Lagrange multipliers: Shoham and Gersho, 1988)."""
    roles = found.roles
    seen: set[tuple[Chain, ...]] = set()
    for shares in ((1.0, 0.0), (0.5, 0.5)):
        saved = {effect: _saved(found, effect, shares) for role in roles for effect in found.of(role)}
        prices = sorted({price for role in roles for price in _prices(found.of(role), saved)})
        choices = dict.fromkeys(_cheapest(found, roles, saved, price) for price in prices)
        fresh = [choice for choice in choices if choice not in seen and any(choice)]
        wanted = min(count // 2, len(fresh))
        chosen = [fresh[(number + 1) * len(fresh) // wanted - 1] for number in range(wanted)]
        seen |= set(chosen)
        yield from ({role: chain for role, chain in zip(roles, choice) if chain} for choice in chosen)


def _prices(effects: list[Effect], saved: Mapping[Effect, float]) -> Iterator[float]:
    """Prices a little above those at which one effect becomes worth another."""
    for mild, strong in itertools.permutations(effects, 2):
        if saved[strong] > saved[mild]:
            yield max(0.0, strong.divergence - mild.divergence) / (saved[strong] - saved[mild]) * (1 + 1e-6) + 1e-9


def _saved(found: Sensitivity, effect: Effect, shares: tuple[float, float]) -> float:
    """The share of the whole network's bytes and multiply-accumulates that is gone."""
    counts = zip(shares, (effect.stored_bytes, effect.macs), (found.dense.stored_bytes, found.dense.macs))
    return sum(share * (1 - left / whole) for share, left, whole in counts)


def _cheapest(found: Sensitivity, roles: list[str], saved: Mapping[Effect, float], price: float) -> tuple[Chain, ...]:
    """Of each role the chain of least divergence less what it saves, at so much divergence for all."""
    return tuple(min(found.of(role), key=lambda effect: effect.divergence - price * saved[effect]).chain for role in roles)
