"""Where a kernel's results go: through the element-wise steps that follow the op, then to memory.

The results may be a slice of the channels of a larger tensor, so that a concatenation is written in place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from backends.emit import bind, load, store
from backends.view import View
from backends.workload import Step, Tensor, Workload


@dataclass(frozen=True)
class Sink:
    """Takes results of `workload`; `operands` are views of each step's tensors, None for the results."""

    steps: tuple[tuple[Step, tuple[View | None, ...]], ...]
    out: View

    @classmethod
    def of(cls, workload: Workload, buffers: dict, out, whole: Tensor, channel: int) -> "Sink":
        """Results go to `out`, a buffer of tensor `whole`, from `channel` on."""
        steps = tuple((step, tuple(operand and View.of(buffers[f"step{i}_{j}"], operand)
                                   for j, operand in enumerate(step.operands)))
                      for i, step in enumerate(workload.then))
        return cls(steps, View.of(out, whole).from_channel(channel))

    def flat(self) -> "Sink":
        """The sink with all pixels of all images as the columns of one row."""
        return self._seen(View.flat)

    def split(self, inner: int) -> "Sink":
        """The sink whose rows are this one's columns, and whose column x of channel c is channel c * inner + x."""
        return self._seen(lambda view: view.split(inner))

    def _seen(self, change: Callable[[View], View]) -> "Sink":
        steps = tuple((step, tuple(view and change(view) for view in views)) for step, views in self.steps)
        return replace(self, steps=steps, out=change(self.out))

    def put(self, value, n, y, x, c, lanes: int) -> None:
        """`value`: the op's results for `lanes` channels from c on of one pixel."""
        from backends.lowering import value_of  # which imports this module

        for step, views in self.steps:
            operands = [value if view is None else load(view.buffer, view.at(n, y, x, c), lanes, view.channel)
                        for view in views]
            value = bind(value_of(step.op)(dict(step.arguments), lanes, *operands))
        store(self.out.buffer, value, self.out.at(n, y, x, c), lanes, self.out.channel)
