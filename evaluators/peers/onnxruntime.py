"""ONNX Runtime's CPU provider, all graph optimisations on (its default), inputs and outputs bound beforehand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

MODULE = "onnxruntime"


def runner(network, onnx: Path, image: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """A session on `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(image))
    binding.bind_output(session.get_outputs()[0].name)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()
    return run
