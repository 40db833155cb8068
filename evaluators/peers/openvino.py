"""OpenVINO's CPU plugin in its latency mode, in float32, with one request whose tensors are set beforehand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

MODULE = "openvino"


def runner(network, onnx: Path, image: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """A compiled model on `threads` threads."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(onnx), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image))

    def run() -> np.ndarray:
        request.infer()
        return request.get_output_tensor().data
    return run
