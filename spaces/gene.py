"""Genes: the choices a study can make, and their only wire format, the token.

A gene is a frozen dataclass in a file of its own; the file's name is the gene's name and its fields
are its parameters. A token spells the name and every field that differs from its default:
`mbconv-kernel5-expand3`, `soft_targets-t4`, `fire-norm_batch`. Parsing imports exactly the module
named; listing walks the folder and imports nothing.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from functools import cache
from typing import ClassVar


class SpaceError(ValueError):
    """A gene, candidate, space or network that cannot be: the message names value, place and remedy."""


@dataclass(frozen=True)
class Gene:
    """One choice. Subclasses set `KIND` (the folder under `spaces/`) and `SOURCE` (paper, [number])."""

    KIND: ClassVar[str]
    SOURCE: ClassVar[str]

    @property
    def name(self) -> str:
        """The name of the file that defines this gene."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def token(self) -> str:
        """The gene as text, for instance `mbconv-kernel5`: `parse` gives back an equal gene."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return "-".join([self.name, *(f.name + _spell(getattr(self, f.name)) for f in changed)])

    def __str__(self) -> str:
        return self.token


def names(kind: str) -> list[str]:
    """Every gene of a kind ("blocks", "compression", "recipes"), sorted, without importing any."""
    package = importlib.import_module(f"spaces.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


@cache
def load(kind: str, name: str) -> type[Gene]:
    """The gene class of `spaces/<kind>/<name>.py`; SpaceError names the known ones."""
    if name not in names(kind):
        raise SpaceError(f"unknown {_noun(kind)} {name!r}; known: {', '.join(names(kind))}")
    module = importlib.import_module(f"spaces.{kind}.{name}")
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(v for v in own if issubclass(v, Gene))


@cache
def parse(kind: str, token: str) -> Gene:
    """The gene that a token spells. SpaceError names an unknown gene, field or value."""
    name, *parts = token.strip().split("-")
    return make(kind, name, dict(_field(kind, name, part) for part in parts))


def make(kind: str, name: str, values: dict[str, object]) -> Gene:
    """The gene `name` with these field values, checked against the field's types."""
    gene = load(kind, name)
    known = {f.name: f.type for f in fields(gene)}
    for field, value in values.items():
        if field not in known:
            raise SpaceError(f"{name} has no parameter {field!r}; it has: {', '.join(known) or 'none'}")
        values = {**values, field: _cast(name, field, known[field], value)}
    missing = [f.name for f in fields(gene) if f.default is MISSING and f.name not in values]
    if missing:
        raise SpaceError(f"{name} needs {', '.join(missing)}")
    return gene(**values)


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Puts the place in front of what is wrong inside; a ValueError that is no SpaceError becomes one."""
    try:
        yield
    except ValueError as error:
        kind = type(error) if isinstance(error, SpaceError) else SpaceError
        raise kind(f"{place}: {error}") from None


def check_choice(place: str, value: object, allowed: tuple) -> None:
    """SpaceError unless `value` is one of `allowed`; `place` is for instance "mbconv kernel"."""
    if value not in allowed:
        raise SpaceError(f"{place} is {value!r}; it can be {', '.join(map(str, allowed))}")


def check_range(place: str, value: float, low: float, high: float) -> None:
    """SpaceError unless low <= value <= high."""
    if not low <= value <= high:
        raise SpaceError(f"{place} is {value}; it can be {low} to {high}")


def _field(kind: str, name: str, part: str) -> tuple[str, str]:
    known = [f.name for f in fields(load(kind, name))]
    matching = [field for field in known if part.startswith(field)]
    if not matching:
        raise SpaceError(f"{name} has no parameter like {part!r}; it has: {', '.join(known) or 'none'}")
    field = max(matching, key=len)
    return field, part[len(field):].removeprefix("_")


def _cast(name: str, field: str, kind: type, value: object) -> object:
    try:
        if isinstance(value, str) or kind is float:
            value = kind(value)
        if type(value) is not kind or value != value:
            raise ValueError
    except (ValueError, TypeError):
        raise SpaceError(f"{name} {field} is {value!r}; it must be {kind.__name__}") from None
    return value


def _spell(value: object) -> str:
    if isinstance(value, str):
        return f"_{value}"
    text = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
    return text.removesuffix(".0")


def _noun(kind: str) -> str:
    return {"blocks": "block", "recipes": "recipe"}.get(kind, kind)
