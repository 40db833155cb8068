"""Compression methods: what one does to a layer, and when.

A chain such as `l1_filters-keep0.5+int8` runs in phases over the whole network: every layer finishes
one phase before any begins the next. STRUCTURE removes channels through the network's dependency
graph, FACTORISE replaces a layer by smaller ones, SPARSIFY masks weights, QUANTISE changes numbers. STORE changes no
number: it says how the frozen layer's tensors are written.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spaces.gene import Gene

if TYPE_CHECKING:
    from torch import nn

    from spaces.recipe import Hooks, Run
    from spaces.site import Site

STRUCTURE, FACTORISE, SPARSIFY, QUANTISE, STORE = range(5)


@dataclass(frozen=True)
class Compression(Gene):
    """A compression gene: `APPLIES` names the kinds of layer it fits, `GAIN` where its gain is realised; `SETTINGS` are the
    tokens that `netwright bench formats` measures, ascending in gain: the method's name alone if it has none."""

    KIND: ClassVar[str] = "compression"
    PHASE: ClassVar[int]
    APPLIES: ClassVar[tuple[str, ...]]
    GAIN: ClassVar[str]
    SETTINGS: ClassVar[tuple[str, ...]] = ()

    @property
    def shapes_fixed(self) -> bool:
        """Whether the compressed layer's shapes and bytes are known without its trained weights."""
        return True

    def before(self, layer: "nn.Module", run: "Run") -> "Hooks | None":
        """Its part, if any, in the training that comes before it is applied, such as a penalty on the layer's weights."""
        return None

    def removed(self, site: "Site") -> list[int]:
        """STRUCTURE methods: the output channels of the site's layer that go, ascending."""
        raise NotImplementedError

    def prepare(self, layer: "nn.Module") -> "nn.Module":
        """FACTORISE, SPARSIFY and QUANTISE methods: what stands in the layer's place while it is trained on. A module in it that has
        `hooks(run)`, as a recipe does, takes part in that training."""
        raise NotImplementedError

    def prepare_at(self, site: "Site") -> "nn.Module":
        """The same, of methods that look at more than the layer's weights."""
        return self.prepare(site.layer)
