"""Candidates: one network of a space with its compression and its training, as one readable line.

    fire-squeeze0.25:64/1 [squeeze=int8 expand3x3=magnitude-keep0.5+int8] classifier:10/1 | soft_targets-t4

A layer is block `:` width `/` stride, then chains of compressions by role (`*` is every
role). After `|` stand the training recipes. Equal networks have equal text, hash and id.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Self

from spaces.block import Block
from spaces.gene import SpaceError, parse
from spaces.method import STRUCTURE, Compression
from spaces.recipe import Recipe

Chain = tuple[Compression, ...]
_LAYER = re.compile(r"\s*([^\s:\[\]|]+):(\d+)/(\d+)(?:\s*\[([^\]]*)\])?(?=\s|$)")


@dataclass(frozen=True)
class Layer:
    """A block at a position. `width`: output channels; `compressions`: (role, chain) in the roles' order."""

    block: Block
    width: int
    stride: int = 1
    compressions: tuple[tuple[str, Chain], ...] = ()

    def __post_init__(self):
        if self.width < 1 or self.stride < 1:
            raise SpaceError(f"{self.block}:{self.width}/{self.stride}: width and stride must be at least 1")
        roles = self.block.roles()
        for role, chain in self.compressions:
            check_chain(self.block, role, chain)
        ordered = sorted(((r, c) for r, c in self.compressions if c), key=lambda rc: list(roles).index(rc[0]))
        object.__setattr__(self, "compressions", tuple(ordered))

    def __str__(self) -> str:
        head = f"{self.block}:{self.width}/{self.stride}"
        return f"{head} [{' '.join(self._spelled())}]" if self.compressions else head

    def _spelled(self) -> list[str]:
        chains = {role: chain_text(chain) for role, chain in self.compressions}
        if len(set(chains.values())) == 1 and len(chains) == len(self.block.roles()):
            return [f"*={next(iter(chains.values()))}"]
        return [f"{role}={text}" for role, text in chains.items()]

    @classmethod
    def parse(cls, block: str, width: str, stride: str, chains: str) -> Self:
        """The layer spelled by the four parts of its text."""
        gene = parse("blocks", block)
        return cls(gene, int(width), int(stride), _parse_chains(gene, chains))


@dataclass(frozen=True)
class Candidate:
    """A whole network: layers (the last one a head) and the recipes it is trained with."""

    layers: tuple[Layer, ...]
    recipes: tuple[Recipe, ...] = ()

    def __post_init__(self):
        if not self.layers or not self.layers[-1].block.HEAD:
            raise SpaceError(f"{self}: the last layer must be a head such as classifier:10/1")
        for layer in self.layers[:-1]:
            if layer.block.HEAD:
                raise SpaceError(f"{self}: the head {layer.block} stands before the end")

    def __str__(self) -> str:
        text = " ".join(map(str, self.layers))
        return f"{text} | {' '.join(map(str, self.recipes))}" if self.recipes else text

    @property
    def id(self) -> str:
        """12 hexadecimal digits of the text's SHA-256: the name of its directory."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:12]

    @property
    def chains(self) -> dict[str, Chain]:
        """Its compressions by the path of the layer in the network that `spaces.build.build` gives."""
        return {f"layers.{number}.{role}": chain for number, layer in enumerate(self.layers) for role, chain in layer.compressions}

    @classmethod
    def parse(cls, text: str) -> Self:
        """The candidate that a line spells. SpaceError shows the part that cannot be read."""
        body, bar, recipes = text.partition("|")
        if bar and not recipes.strip():
            raise SpaceError(f"no recipe after '|' in {text.strip()!r}")
        return cls(_parse_layers(body), tuple(parse("recipes", token) for token in recipes.split()))

    def to_json(self) -> str:
        """A JSON object {"layers": [{block, width, stride, compressions}], "recipes": [...]}."""
        layers = [{"block": str(layer.block), "width": layer.width, "stride": layer.stride,
                   "compressions": {role: chain_text(chain) for role, chain in layer.compressions}}
                  for layer in self.layers]
        return json.dumps({"layers": layers, "recipes": [str(recipe) for recipe in self.recipes]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The candidate that `to_json` wrote."""
        try:
            data = json.loads(text)
            layers = tuple(_json_layer(entry) for entry in data["layers"])
            return cls(layers, tuple(parse("recipes", token) for token in data["recipes"]))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SpaceError(f"not a candidate in JSON: {error}") from None


def check_chain(block: Block, role: str, chain: Chain) -> None:
    """SpaceError unless the chain fits the role and its phases ascend."""
    roles = block.roles()
    if role not in roles:
        raise SpaceError(f"{block} has no role {role!r}; it has: {', '.join(roles) or 'none'}")
    for method in chain:
        if not fits(method, block, role):
            raise SpaceError(f"{method} does not fit {block.name} {role} ({roles[role].kind}); {why_not(method)}")
    _check_order(chain)


def fits(method: Compression, block: Block, role: str) -> bool:
    """Whether the method can compress that layer of the block."""
    target = block.roles()[role]
    return target.kind in method.APPLIES and (target.removable or method.PHASE != STRUCTURE)


def why_not(method: Compression) -> str:
    """What the method does fit, for messages."""
    removable = " whose outputs may be removed" if method.PHASE == STRUCTURE else ""
    return f"it fits {', '.join(method.APPLIES)} layers{removable}"


def parse_chain(text: str) -> Chain:
    """`l1_filters-keep0.5+int8` as methods; `none` is the empty chain."""
    chain = () if text == "none" else tuple(parse("compression", token) for token in text.split("+"))
    _check_order(chain)
    return chain


def chain_text(chain: Chain) -> str:
    """The inverse of `parse_chain`."""
    return "+".join(map(str, chain)) or "none"


def _check_order(chain: Chain) -> None:
    for first, second in zip(chain, chain[1:]):
        if first.PHASE >= second.PHASE:
            raise SpaceError(f"{chain_text(chain)}: {second.name} cannot follow {first.name}; the order is"
                             " remove structure, factorise, sparsify, quantise, store, one of each")


def _parse_layers(body: str) -> tuple[Layer, ...]:
    layers, at = [], 0
    while body[at:].strip():
        match = _LAYER.match(body, at)
        if not match:
            raise SpaceError(f"cannot read {body[at:].strip()[:40]!r}; a layer is block:width/stride [role=method]")
        layers.append(Layer.parse(*match.group(1, 2, 3), match.group(4) or ""))
        at = match.end()
    return tuple(layers)


def _parse_chains(block: Block, text: str) -> tuple[tuple[str, Chain], ...]:
    chains: dict[str, Chain] = {}
    for entry in sorted(text.split(), key=lambda e: not e.startswith("*")):
        role, equals, spelled = entry.partition("=")
        if not equals:
            raise SpaceError(f"cannot read {entry!r} of {block}; compressions are role=method[+method]")
        chain = parse_chain(spelled)
        if role == "*":
            chains = {name: chain for name in block.roles()}
        else:
            chains[role] = chain
    return tuple(chains.items())


def _json_layer(entry: dict) -> Layer:
    chains = tuple((role, parse_chain(text)) for role, text in entry["compressions"].items())
    return Layer(parse("blocks", entry["block"]), int(entry["width"]), int(entry["stride"]), chains)
