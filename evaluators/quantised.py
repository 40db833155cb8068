"""A float network quantised to 8 bits by ONNX Runtime's static quantiser, so that several runtimes run the same integers.

QDQ form, weights int8 and symmetric by output channel, activations uint8, each range that of some images.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.library import Library
from backends.target import Target
from evaluators.measured import measured
from evaluators.model import Model, load_model

CALIBRATION, COMPARED = 16, 200


@dataclass(frozen=True)
class Images:
    """float32 [N, C, H, W]: `calibration` sets the ranges, `compared` are classified; `labels` of the latter, int64 [N], where
    there are any."""

    calibration: np.ndarray
    compared: np.ndarray
    labels: np.ndarray | None = None


def random_images(shape: tuple[int, ...]) -> Images:
    """Normal noise in the shape [1, C, H, W] of an input."""
    calibration, compared = (np.random.default_rng(seed).standard_normal((count, *shape[1:]), np.float32)
                             for seed, count in ((1, CALIBRATION), (2, COMPARED)))
    return Images(calibration, compared)


def measure_quantised(text: str, shape: tuple[int, ...], target: Target, peers: list[str]) -> dict[str, Any]:
    """In the worker: `measure_on` random images of the network that `text` names."""
    model = load_model(text, shape)
    return measure_on(random_images(model.image.shape), model, target, peers)


def measure_on(images: Images, model: Model, target: Target, peers: list[str]) -> dict[str, Any]:
    """What `measured` gives of the quantised network, and `_agreement`."""
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        quantised = load_model(str(write_quantised(model, Path(folder), images.calibration)), ())
        return measured(quantised, target, peers, look=lambda library: _agreement(quantised, library, images))


def write_quantised(model: Model, folder: Path, calibration: np.ndarray) -> Path:
    """The path of the quantised ONNX file, written into the folder; ranges are those of the images [N, C, H, W]."""
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared, path = model.as_onnx(folder), folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    ort.quantize_static(str(prepared), str(path), _reader(calibration, source), ort.QuantFormat.QDQ,
                        per_channel=True, activation_type=ort.QuantType.QUInt8, weight_type=ort.QuantType.QInt8)
    return path


def _reader(images: np.ndarray, onnx: Path):
    """The images as the quantiser reads them: one by one, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self):
            image = next(waiting, None)
            return None if image is None else {name: image[None]}

    waiting, name = iter(images), _input_name(onnx)
    return Reader()


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path).graph.input[0].name


def _agreement(model: Model, library: Library, images: Images) -> dict[str, float]:
    """`agreement` with ONNX Runtime as it runs by default, in integers; `peer_agreement` is that of ONNX Runtime with itself,
    operator by operator in floats: how far rounding alone decides the class of these networks. With labels, `accuracy` and
    ONNX Runtime's, `peer_accuracy`."""
    runs = library.run, _session(model, True), _session(model, False)
    ours, usual, literal = (np.array([run(image[None]).argmax() for image in images.compared]) for run in runs)
    found = {"agreement": ours == usual, "peer_agreement": literal == usual}
    if images.labels is not None:
        found |= {"accuracy": ours == images.labels, "peer_accuracy": usual == images.labels}
    return {name: float(same.mean()) for name, same in found.items()}


def _session(model: Model, rewritten: bool) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime's outputs, with or without its own rewriting of the graph."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not rewritten:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]
