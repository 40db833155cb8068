"""A compiled network in memory: the library's code with the stored tensors bound to it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np


class Library:
    """Runs a compiled network. Loading unpacks and packs the stored tensors once."""

    def __init__(self, path: Path, parameters: Sequence[str], weights: Mapping[str, np.ndarray]):
        """path: model.so; parameters: tensor names in the library's order; weights: the tensors by name."""
        import tvm

        self._tensor = tvm.runtime.tensor
        self.machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
        stored = [self._tensor(np.ascontiguousarray(weights[name])) for name in parameters]
        self.bound = list(self.machine["main_transform_params"](stored))
        self._main = self.machine["main"]

    def run(self, image: np.ndarray) -> np.ndarray:
        """The outputs for one input batch [N, C, H, W] of the compiled size."""
        return self._main(self._tensor(np.ascontiguousarray(image)), *self.bound).numpy()

    def run_op(self, node: str, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The output of one op of the graph on these tensors, weights as they are stored."""
        return self.machine[f"op_{node}"](*(self._tensor(np.ascontiguousarray(value)) for value in inputs)).numpy()

    def runner(self, image: np.ndarray) -> Callable[[], np.ndarray]:
        """A function that runs the network on this input, which is handed over once, and gives the outputs."""
        self.machine.save_function("main", "on_image", self._tensor(np.ascontiguousarray(image)), *self.bound)
        on_image = self.machine["on_image"]
        return lambda: np.from_dlpack(on_image())

    def seconds(self, image: np.ndarray, number: int) -> float:
        """Mean seconds of `number` inferences in a row, timed inside TVM."""
        import tvm

        timer = self.machine.module.time_evaluator("main", tvm.cpu(), number=number, repeat=1)
        return float(timer(self._tensor(np.ascontiguousarray(image)), *self.bound).mean)
