"""A float network quantised to 8 bits by ONNX Runtime's static quantiser, so that several runtimes run the same integers.

QDQ form, weights int8 and symmetric by output channel, activations uint8, ranges from random images.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backends.library import Library
from backends.target import Target
from evaluators.measured import measured
from evaluators.model import Model, load_model

CALIBRATION, COMPARED = 16, 200


def measure_quantised(text: str, shape: tuple[int, ...], target: Target, peers: list[str]) -> dict[str, Any]:
    """In the worker: what `measured` gives of the quantised network, and the shares of random images on which the compiled
    network and ONNX Runtime see the same class, and ONNX Runtime with itself."""
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        quantised = load_model(str(write_quantised(load_model(text, shape), Path(folder))), ())
        return measured(quantised, target, peers, look=lambda library: _agreement(quantised, library))


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


def _agreement(model: Model, library: Library) -> dict[str, float]:
    """`agreement` with ONNX Runtime as the file says, without its own rewriting; `peer_agreement` is that of ONNX Runtime as it
    runs by default: how far rounding alone decides the class of these networks."""
    literal, usual = _session(model, False), _session(model, True)
    classes = [(library.run(image).argmax(), literal(image).argmax(), usual(image).argmax())
               for image in _images(model, COMPARED, 2)]
    return {"agreement": float(np.mean([ours == theirs for ours, theirs, _ in classes])),
            "peer_agreement": float(np.mean([theirs == own for _, theirs, own in classes]))}


def _session(model: Model, rewritten: bool) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime's outputs, with or without its own rewriting of the graph."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not rewritten:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]
