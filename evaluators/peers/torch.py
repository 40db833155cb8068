"""PyTorch, eager, in inference mode."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

MODULE = "torch"


def runner(network, onnx: Path, image: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """The module itself, with torch kept to `threads` threads."""
    import torch

    torch.set_num_threads(threads)
    x = torch.from_numpy(image)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return network(x).numpy()
    return run
