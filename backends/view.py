"""Where the element (image n, row y, column x, channel c) of a tensor lies in its flat buffer."""

from dataclasses import dataclass, replace
from typing import Any

from backends.workload import CHANNELS_LAST, Tensor


@dataclass(frozen=True)
class View:
    """A flat buffer and the distances between neighbours: images, rows, columns, channels, in elements."""

    buffer: Any
    origin: Any
    image: int
    row: int
    column: int
    channel: int

    @classmethod
    def of(cls, buffer, tensor: Tensor) -> "View":
        """The view of an image tensor [N, C, H, W], or of [N, C] as images of one pixel."""
        batch, channels, height, width = sides(tensor)
        row, column, channel = (width, 1, height * width)
        if tensor.layout == CHANNELS_LAST or len(tensor.shape) != 4:
            row, column, channel = (width * channels, channels, 1)
        return cls(buffer, 0, channels * height * width, row, column, channel)

    def at(self, n, y, x, c):
        """The flat index of an element."""
        return self.origin + n * self.image + y * self.row + x * self.column + c * self.channel

    def of_image(self, n) -> "View":
        """The view of image n alone."""
        return replace(self, origin=self.origin + n * self.image, image=0)

    def from_channel(self, c) -> "View":
        """The view whose channel 0 is channel c of this one."""
        return replace(self, origin=self.origin + c * self.channel)

    def flat(self) -> "View":
        """The view with all pixels of all images as the columns of one row."""
        return replace(self, image=0, row=0)

    def split(self, inner: int) -> "View":
        """The view whose rows are this one's columns, and whose column x of channel c is channel c * inner + x."""
        return replace(self, row=self.column, column=self.channel, channel=inner * self.channel)


def sides(tensor: Tensor) -> tuple[int, int, int, int]:
    """Images, channels, height, width: 1x1 for a tensor of two dimensions; a tensor that is no image is one row of
    channels."""
    if len(tensor.shape) not in (2, 4):
        return 1, tensor.size, 1, 1
    batch, channels, *rest = tensor.shape
    height, width = rest or (1, 1)
    return batch, channels, height, width

