"""Random calls of every op, and what NumPy makes of them: one file an op, found by its name.

A file defines its op once more, in NumPy. `inputs(rng)` draws a call: tensors (arrays by argument name, in torch's
shapes) and the other arguments by name. `expected(**tensors, **arguments)` is the result, summed in float64 or in whole
numbers. Where floats are rounded on the way, `TOLERANCE` says by how much of the largest result others may differ; all
else is exact.

`inputs` of an element-wise op takes a `shape` that all its tensors then have; that of `unpack_<format>` takes dense
weights, and draws what is stored of others like these (`fits(shape)` says whether it can). `<layer>_unpack_<format>`, a
layer computed straight from packed weights, has no file: it is its layer on the weights that the format's file gives.
"""

import importlib
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np

# Sums of float32 round by the size of what is summed, which a clamp to a small range does not show: see `Case.allowed`.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Case:
    """Call `number` of an op and its result. Of a layer with packed weights `unpack` is the call that unpacks them, and
    `tensors` holds the dense ones."""

    op: str
    number: int
    tensors: dict[str, np.ndarray]
    arguments: dict[str, Any]
    expected: np.ndarray
    unpack: "Case | None" = None

    @property
    def allowed(self) -> float:
        """By how much another result may differ: `TOLERANCE` of the largest number, or where clamps made that small, `ROUNDING`
        of the largest before; 0 if exact."""
        layer = definition(self.op.partition("_unpack_")[0])
        if not hasattr(layer, "TOLERANCE"):
            return 0.0
        clamped = {"low", "high"} <= self.arguments.keys()
        unclamped = self.arguments | {"low": -np.inf, "high": np.inf} if clamped else self.arguments
        largest, summed = (float(np.abs(out).max()) for out in (self.expected, layer.expected(**self.tensors, **unclamped)))
        return max(layer.TOLERANCE * largest, ROUNDING * summed)

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in self.tensors.items())
        packed = f" of {self.unpack}" if self.unpack else ""
        return f"{self.op} #{self.number}({shapes}, {self.arguments}){packed}"


def definition(op: str) -> ModuleType:
    """The op's file; ModuleNotFoundError names the one that a new op needs."""
    return importlib.import_module(f"tests.cases.{op}")


def case(op: str, number: int) -> Case:
    """The op's call of that number, always the same."""
    rng = np.random.default_rng([crc32(op.encode()), number])
    layer, _, form = op.partition("_unpack_")
    if not form:
        return called(op, number, *definition(op).inputs(rng))
    tensors, arguments = _layer_for(rng, definition(layer), definition(f"unpack_{form}"))
    stored = definition(f"unpack_{form}").inputs(rng, tensors["weight"])
    return on_packed(layer, tensors, arguments, called(f"unpack_{form}", number, *stored))


def called(op: str, number: int, tensors: dict[str, np.ndarray], arguments: dict[str, Any]) -> Case:
    """A call and its result."""
    return Case(op, number, tensors, arguments, definition(op).expected(**tensors, **arguments))


def on_packed(layer: str, tensors: dict[str, np.ndarray], arguments: dict[str, Any], unpack: Case) -> Case:
    """The layer's call on the weights that `unpack` gives, in place of those among the tensors."""
    dense = {name: unpack.expected if name == "weight" else value for name, value in tensors.items()}
    return replace(called(layer, unpack.number, dense, arguments), op=f"{layer}_{unpack.op}", unpack=unpack)


def _layer_for(rng, layer: ModuleType, form: ModuleType) -> tuple[dict, dict]:
    """A call of a layer whose weights can have the form."""
    fits = getattr(form, "fits", lambda shape: True)
    return next(call for call in iter(lambda: layer.inputs(rng), None) if fits(call[0]["weight"].shape))
