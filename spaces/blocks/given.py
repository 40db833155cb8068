"""The network that the user has, whole: its compressible layers are roles by their module path."""

from dataclasses import dataclass
from typing import ClassVar

from spaces.block import Block, Role
from spaces.gene import SpaceError
from spaces.given import given, module


@dataclass(frozen=True)
class GivenNetwork(Block):
    """A network with its weights, by the hash of its file."""

    SOURCE: ClassVar[str] = "the user's own"
    HEAD: ClassVar[bool] = True
    network: str

    def roles(self) -> dict[str, Role]:
        return given(self.network).roles

    def build(self, inputs: int, width: int, stride: int):
        found = given(self.network)
        if (inputs, width, stride) != (found.shape[0], found.classes, 1):
            raise SpaceError(f"the network {self.network} tells {found.classes} classes of images with {found.shape[0]} channels apart")
        return module(self.network)
