"""Where the layers of a candidate stand in its space: a place is a position of a stage, or the head. Skipped positions close up, so
that the second layer of a stage is the second one that is there."""

from collections.abc import Iterator
from dataclasses import dataclass

from spaces.block import Block
from spaces.candidate import Candidate, Layer, chain_text
from spaces.gene import SpaceError
from spaces.space import BlockChoice, Space, Stage, Value, labels, parsed


@dataclass(frozen=True)
class Place:
    """What may stand at `name`, behind one of `before` (none: the image); `same_width`: as wide as that."""

    name: str
    blocks: tuple[Block, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[str, ...]
    same_width: bool = False

    def fits(self, layer: Layer) -> bool:
        """Whether a layer may stand here, whatever its compressions."""
        return layer.block in self.blocks and layer.width in self.widths and layer.stride in self.strides


def places(space: Space) -> list[Place]:
    """All places in order."""
    found, before = [], ()
    for number, stage in enumerate(space.stages):
        names = [f"stage{number}.{position}" for position in range(max(stage.layers))]
        for position, name in enumerate(names):
            strides, behind = (stage.stride, before) if position == 0 else ((1,), (names[position - 1],))
            found.append(Place(name, tuple(_blocks(stage, position)), stage.width, strides, behind, position > 0))
        before = tuple(names)
    heads = tuple(block for choice in space.head for block in choice.variants)
    return [*found, Place("head", heads, (space.classes,), (1,), before)]


def placed_layers(waiting: list[Place], candidate: Candidate) -> tuple[str, ...]:
    """The place of each layer, among all of a space. SpaceError if the space has no such candidate."""
    found = _placed(list(candidate.layers), waiting, "")
    if found is None:
        raise SpaceError(f"{candidate} is no candidate of this space")
    return tuple(found)


def picks_of(space: Space, candidate: Candidate) -> dict[str, Value]:
    """What has to be picked for the candidate: `Space.decode` gives it back. SpaceError if the space has no such candidate."""
    placed = placed_layers(places(space), candidate)
    picks = {name: options[0] for name, options in space.choices.items()}
    for number, stage in enumerate(space.stages):
        mine = [layer for name, layer in zip(placed, candidate.layers) if name.startswith(f"stage{number}.")]
        picks |= _stage_picks(f"stage{number}", stage, mine)
    picks |= _block_picks("head", space.head, candidate.layers[-1])
    picks["recipe"] = next((text for text in space.recipes if parsed(text) == candidate.recipes), space.recipes[0])
    picks = {name: value for name, value in picks.items() if name in space.choices}
    if any(value not in space.choices[name] for name, value in picks.items()) or space.decode(picks) != candidate:
        raise SpaceError(f"{candidate} is no candidate of this space")
    return picks


def _stage_picks(name: str, stage: Stage, layers: list[Layer]) -> dict[str, Value]:
    """Of the layers of a stage, and of positions to skip behind them."""
    depth = min((count for count in stage.layers if count >= len(layers)), default=max(stage.layers))
    picks: dict[str, Value] = {f"{name}.layers": depth}
    if layers:
        picks |= {f"{name}.width": layers[0].width, f"{name}.stride": layers[0].stride}
    for position in range(depth):
        options = stage.choicesplaced(position)
        if position < len(layers):
            picks |= _block_picks(f"{name}.{position}", options, layers[position])
        else:
            skips = (label for label, choice in zip(labels(options), options) if choice.variants[0].KEEPS_WIDTH)
            picks[f"{name}.{position}.block"] = next(skips, labels(options)[0])
    return picks


def _block_picks(place: str, options: tuple[BlockChoice, ...], layer: Layer) -> dict[str, Value]:
    """Of a layer where it stands."""
    label, choice = next((label, choice) for label, choice in zip(labels(options), options) if layer.block in choice.variants)
    chains, prefix = dict(layer.compressions), f"{place}.{label}"
    return {f"{place}.block": label, **{f"{prefix}.{key}": getattr(layer.block, key) for key in choice.options},
            **{f"{prefix}.{role}.compression": chain_text(chains.get(role, ())) for role in layer.block.roles()}}


def _blocks(stage: Stage, position: int) -> Iterator[Block]:
    """Blocks at a position or, since skipped ones close up, at a later one."""
    seen = set()
    for later in range(position, max(stage.layers)):
        for block in (b for choice in stage.choicesplaced(later) for b in choice.variants):
            if not block.KEEPS_WIDTH and block not in seen:
                seen.add(block)
                yield block


def _placed(layers: list[Layer], waiting: list[Place], before: str, width: int = 0) -> list[str] | None:
    """The places of the layers from the first waiting one on, or None."""
    if not layers:
        return [] if not waiting else None
    for number, place in enumerate(waiting):
        follows = place.fits(layers[0]) and (before in place.before or not before and not place.before)
        if follows and (not place.same_width or layers[0].width == width):
            rest = _placed(layers[1:], waiting[number + 1:], place.name, layers[0].width)
            if rest is not None:
                return [place.name, *rest]
    return None
