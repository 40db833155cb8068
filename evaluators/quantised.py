"""A float network quantised to 8 bits by ONNX Runtime's static quantiser, so that several runtimes run the same integers.

QDQ form, weights int8 and symmetric by output channel, activations uint8, ranges from random images.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from backends.library import Library
from backends.target import Target
from evaluators.measured import measured
from evaluators.model import Model, load_model

CALIBRATION, COMPARED = 16, 200


def measure_quantised(text: str, shape: tuple[int, ...], target: Target, peers: list[str]) -> dict[str, Any]:
    """In the worker: what `measured` gives of the quantised network, and `agreement`, the share of random images on which the
    compiled network and ONNX Runtime see the same class."""
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        quantised = load_model(str(write_quantised(load_model(text, shape), Path(folder))), ())
        return measured(quantised, target, peers, look=lambda library: {"agreement": _agreement(quantised, library)})


def write_quantised(model: Model, folder: Path) -> Path:
    """The path of the quantised ONNX file, written into the folder."""
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared, path = model.as_onnx(folder), folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    ort.quantize_static(str(prepared), str(path), _reader(_images(model, CALIBRATION, 1), source), ort.QuantFormat.QDQ,
                        per_channel=True, activation_type=ort.QuantType.QUInt8, weight_type=ort.QuantType.QInt8)
    return path


def _images(model: Model, count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(model.image.shape, np.float32) for _ in range(count)]


def _reader(images: list[np.ndarray], onnx: Path):
    """The images as the quantiser reads them: one by one, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self):
            image = next(waiting, None)
            return None if image is None else {name: image}

    waiting, name = iter(images), _input_name(onnx)
    return Reader()


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path).graph.input[0].name


def _agreement(model: Model, library: Library) -> float:
    """With ONNX Runtime as the file says, without its own rewriting."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
    name, same, images = session.get_inputs()[0].name, 0, _images(model, COMPARED, 2)
    for image in images:
        same += int(library.run(image).argmax() == session.run(None, {name: image})[0].argmax())
    return same / len(images)
