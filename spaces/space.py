"""The space of a study: stages of layers, the blocks and compressions each layer may take, recipes.

A space is one fixed flat list of choices (`Space.choices`: name -> options). Every choice is always
asked, active or not, since samplers model conditional parameters poorly; `decode` ignores the
inactive ones, leaves out skipped positions, and so maps equal networks to one candidate.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from spaces.block import Block
from spaces.candidate import Candidate, Chain, Layer, chain_text, fits, parse_chain
from spaces.gene import SpaceError, load, make, parse, placed
from spaces.recipe import Recipe, Sequences

Value = str | int | float
STAGE_KEYS = ("layers", "width", "stride", "blocks")


@dataclass(frozen=True)
class BlockChoice:
    """One entry of a `blocks` list: a block and the options of its parameters, all combinations allowed."""

    name: str
    options: Mapping[str, tuple[Value, ...]]

    @classmethod
    def from_table(cls, table: object, place: str) -> Self:
        """From `{name = "mbconv", kernel = [3, 5]}`."""
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            raise SpaceError(f'{place} is {table!r}; it must be a table such as {{name = "conv", kernel = [3, 5]}}')
        options = {key: _options(value, f"{place}.{key}") for key, value in table.items() if key != "name"}
        choice = cls(table["name"], options)
        with placed(place):
            list(choice.variants)
        return choice

    @cached_property
    def variants(self) -> tuple[Block, ...]:
        """Every block that the options allow."""
        return tuple(make("blocks", self.name, dict(zip(self.options, values))) for values in itertools.product(*self.options.values()))

    @cached_property
    def roles(self) -> list[str]:
        """The roles of any variant."""
        return list(dict.fromkeys(role for block in self.variants for role in block.roles()))


@dataclass(frozen=True)
class Stage:
    """Layers of one width, the first of which carries the stride."""

    layers: tuple[int, ...]
    width: tuple[int, ...]
    stride: tuple[int, ...]
    blocks: tuple[BlockChoice, ...]

    @classmethod
    def from_table(cls, table: dict, place: str) -> Self:
        """From a `[[space.stages]]` table."""
        for key in table:
            if key not in STAGE_KEYS:
                raise SpaceError(f"{place} has no {key!r}; a stage has {', '.join(STAGE_KEYS)}")
        entries = table.get("blocks") or [None]
        blocks = tuple(BlockChoice.from_table(b, f"{place}.blocks[{i}]") for i, b in enumerate(entries))
        if all(load("blocks", block.name).KEEPS_WIDTH for block in blocks):
            raise SpaceError(f"{place}.blocks offers only {blocks[0].name}, which cannot stand first in a stage")
        counts = {key: _counts(table.get(key, default), f"{place}.{key}")
                  for key, default in (("layers", 1), ("width", None), ("stride", 1))}
        return cls(blocks=blocks, **counts)

    def choicesplaced(self, position: int) -> tuple[BlockChoice, ...]:
        """The blocks that may stand at a position: the first one has to set the width."""
        return self.blocks if position else tuple(b for b in self.blocks if not load("blocks", b.name).KEEPS_WIDTH)


@dataclass(frozen=True)
class Space:
    """All candidates of a study. `choices` is the fixed flat list of what a sampler picks."""

    stages: tuple[Stage, ...]
    head: tuple[BlockChoice, ...]
    compression: Mapping[str, tuple[Chain, ...]]
    recipes: tuple[str, ...]
    classes: int
    choices: Mapping[str, tuple[Value, ...]] = field(init=False)
    _offered: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        asked: dict[str, tuple[Value, ...]] = {}

        def note(name: str, options: tuple[Value, ...]) -> Value:
            asked[name] = options
            return options[0]

        self._walk(note)
        object.__setattr__(self, "choices", {n: o for n, o in asked.items() if len(o) > 1})

    @classmethod
    def from_tables(cls, stages: list[dict], head: dict, compression: dict[str, list[str]],
                    recipes: list[str], classes: int) -> Self:
        """From the tables of a study file. SpaceError names the bad value and its key."""
        if not stages and not head:
            raise SpaceError("space.stages is empty; give at least one [[space.stages]], or a [model] of your own")
        built = tuple(Stage.from_table(table, f"space.stages[{i}]") for i, table in enumerate(stages))
        heads = tuple(BlockChoice.from_table(table, f"space.head.blocks[{i}]")
                      for i, table in enumerate(head.get("blocks", [{"name": "classifier"}])))
        _check_heads(built, heads)
        chains = {role: _chains(role, tokens) for role, tokens in compression.items()}
        _check_roles(chains, [b for stage in built for b in stage.blocks] + list(heads))
        return cls(built, heads, chains, _recipes(recipes), classes)

    def sample(self, pick: Callable[[str, tuple[Value, ...]], Value]) -> Candidate:
        """The candidate that a chooser picks: `pick(name, options)` is asked for every choice, in order."""
        return self.decode({name: pick(name, options) for name, options in self.choices.items()})

    def decode(self, picks: Mapping[str, Value]) -> Candidate:
        """The candidate of one value for each of `choices`."""
        return self._walk(lambda name, options: picks[name] if len(options) > 1 else options[0])

    def check(self, input_shape: tuple[int, int, int]) -> None:
        """SpaceError if even the smallest strides shrink images of `input_shape` to nothing."""
        size = list(input_shape[1:])
        for index, stage in enumerate(self.stages):
            stride = min(stage.stride)
            if stride > min(size):
                raise SpaceError(f"space.stages[{index}].stride is {stride}, past the {size[0]}x{size[1]} image"
                                 " that reaches it; lower this stride or an earlier one")
            size = [-(-side // stride) for side in size]

    def check_recipes(self, sequences: Sequences | None, augment: tuple[str, ...]) -> None:
        """SpaceError if a recipe cannot learn from such data (`spaces.recipe.Recipe.check`)."""
        with placed("space.recipes"):
            for recipe in (recipe for text in self.recipes for recipe in parsed(text)):
                recipe.check(sequences, augment)

    def _walk(self, pick) -> Candidate:
        layers = [layer for index, stage in enumerate(self.stages)
                  for layer in self._stage(stage, f"stage{index}", pick)]
        block, chains = self._block(self.head, "head", pick)
        return Candidate((*layers, Layer(block, self.classes, 1, chains)), parsed(pick("recipe", self.recipes)))

    def _stage(self, stage: Stage, name: str, pick) -> list[Layer]:
        depth, width = pick(f"{name}.layers", stage.layers), pick(f"{name}.width", stage.width)
        stride = pick(f"{name}.stride", stage.stride)
        drawn = [self._block(stage.choicesplaced(i), f"{name}.{i}", pick) for i in range(max(stage.layers))]
        strides = itertools.chain([stride], itertools.repeat(1))
        return [Layer(block, width, step, chains) for (block, chains), step in zip(drawn[:depth], strides)
                if not block.KEEPS_WIDTH]

    def _block(self, options: tuple[BlockChoice, ...], place: str, pick) -> tuple[Block, tuple[tuple[str, Chain], ...]]:
        named = dict(zip(labels(options), options))
        chosen = pick(f"{place}.block", tuple(named))
        drawn = {label: self._variant(option, f"{place}.{label}", pick) for label, option in named.items()}
        return drawn[chosen]

    def _variant(self, option: BlockChoice, place: str, pick):
        values = {key: pick(f"{place}.{key}", options) for key, options in option.options.items()}
        block = make("blocks", option.name, values)
        picked = [(role, parse_chain(pick(name, self._chains_for(name, option, role))))
                  for role in option.roles for name in (f"{place}.{role}.compression",)]
        return block, tuple((role, chain) for role, chain in picked
                            if role in block.roles() and _chain_fits(chain, block, role))

    def _chains_for(self, name: str, option: BlockChoice, role: str) -> tuple[str, ...]:
        """What the choice `name` offers, found once."""
        if name not in self._offered:
            self._offered[name] = self._fitting(option, role)
        return self._offered[name]

    def _fitting(self, option: BlockChoice, role: str) -> tuple[str, ...]:
        offered = self.compression.get(role, self.compression.get("*", ((),)))
        usable = [chain_text(chain) for chain in offered
                  if any(role in b.roles() and _chain_fits(chain, b, role) for b in option.variants)]
        return tuple(usable) or ("none",)


def labels(options: tuple[BlockChoice, ...]) -> tuple[str, ...]:
    """What the blocks of a list are called in choices: their names, numbered where one stands there more than once."""
    names = [option.name for option in options]
    return tuple(n if names.count(n) == 1 else f"{n}#{names[:i].count(n)}" for i, n in enumerate(names))


def _chain_fits(chain: Chain, block: Block, role: str) -> bool:
    return all(fits(method, block, role) for method in chain)


def _options(value: object, place: str) -> tuple[Value, ...]:
    options = tuple(value) if isinstance(value, list) else (value,)
    if not options or len(set(options)) < len(options):
        raise SpaceError(f"{place} is {value!r}; give one value or a list of different values")
    return options


def _counts(value: object, place: str) -> tuple[int, ...]:
    options = _options(value, place)
    if not all(type(option) is int and option >= 1 for option in options):
        raise SpaceError(f"{place} is {value!r}; give whole numbers of at least 1")
    return options


def _check_heads(stages: tuple[Stage, ...], heads: tuple[BlockChoice, ...]) -> None:
    for i, stage in enumerate(stages):
        for block in stage.blocks:
            if load("blocks", block.name).HEAD:
                raise SpaceError(f"space.stages[{i}].blocks offers the head {block.name}; put it in space.head.blocks")
    for block in heads:
        if not load("blocks", block.name).HEAD:
            raise SpaceError(f"space.head.blocks offers {block.name}, which is no head; take classifier")


def _chains(role: str, tokens: object) -> tuple[Chain, ...]:
    place = f'space.compression."{role}"'
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise SpaceError(f'{place} is {tokens!r}; give a list such as ["none", "int8"]')
    with placed(place):
        return tuple(parse_chain(token) for token in _options(tokens, place))


def _check_roles(chains: Mapping[str, tuple[Chain, ...]], options: list[BlockChoice]) -> None:
    known = sorted({role for option in options for role in option.roles})
    for role, offered in chains.items():
        if role != "*" and role not in known:
            raise SpaceError(f'space.compression."{role}": no block of this space has that role; they have:'
                             f" {', '.join(known)}")
        for chain in offered:
            if not any(_chain_fits(chain, block, r) for option in options for block in option.variants
                       for r in block.roles() if role in ("*", r)):
                raise SpaceError(f'space.compression."{role}": {chain_text(chain)} fits no layer of this space')


def _recipes(tokens: list[str]) -> tuple[str, ...]:
    options = _options(tokens or ["none"], "space.recipes")
    with placed("space.recipes"):
        for token in options:
            parsed(str(token))
    return options


def parsed(text: str) -> tuple[Recipe, ...]:
    """The recipes of one option, such as "soft_targets+logic_rules"; of "none" none."""
    return () if text == "none" else tuple(parse("recipes", token) for token in text.split("+"))
