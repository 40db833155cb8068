"""What `netwright measure` does, in the worker process: compile a network, compare it with torch, time it beside other
runtimes. Takes and gives plain values."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from backends.cores import apart
from backends.target import Target
from evaluators.compare import in_turns
from evaluators.model import Model, load_model
from evaluators.peers import runner

TOLERANCE = 1e-4


def measure_model(text: str, shape: tuple[int, ...], target: Target, peers: list[str], retune: bool) -> dict[str, Any]:
    """The times of the network that `text` names (`evaluators.model`), with the kernel of each op."""
    return measured(load_model(text, shape), target, peers, retune)


def measured(model: Model, target: Target, peers: list[str], retune: bool = False,
             look: Callable[[Any], dict[str, Any]] = lambda library: {}) -> dict[str, Any]:
    """See README, "JSON", and what `look` finds of the compiled network's `Library`. RuntimeError if its outputs differ from torch's."""
    import torch

    import spaces.ops
    from backends.compile import compile_program
    from backends.library import Library
    from backends.tune import difference

    spaces.ops.register_all()
    with tempfile.TemporaryDirectory(prefix="netwright-") as folder:
        onnx = model.as_onnx(Path(folder)) if set(peers) - {"torch"} else Path()
        report = compile_program(model.program, target, Path(folder) / "model.so", retune=retune)
        library = Library(Path(folder) / "model.so", report.parameters,
                          {name: tensor.detach().numpy() for name, tensor in model.program.state_dict.items()})
        with torch.no_grad():
            expected = model.network(torch.from_numpy(model.image)).numpy()
        error = difference(library.run(model.image), expected)
        if not error <= TOLERANCE:
            raise RuntimeError(f"the compiled network differs from torch by {error:.2g} of the largest output")
        runners = {"netwright": library.runner(model.image)}
        runners |= {name: runner(name, model.network, onnx, model.image, target.threads) for name in peers}
        errors = {name: difference(np.asarray(runners[name]()), expected) for name in peers}
        with apart(target.threads):  # whose threads were all started by the first runs
            timings = in_turns(runners)
        found = look(library)
    ours = timings["netwright"]
    return {"target": target.name, "threads": target.threads, **ours.summary(), "error": error, "fallback": report.fallback,
            "layout_changes": report.layout_changes, "compile_seconds": report.seconds, "tune_seconds": report.tune_seconds,
            "ops": [_renamed(asdict(op)) for op in report.ops],
            "peers": {name: {**timings[name].summary(), **ours.ratio(timings[name]), "error": errors[name]} for name in peers}, **found}


def _renamed(op: dict[str, Any]) -> dict[str, Any]:
    return {"op": "+".join([op.pop("op"), *op.pop("steps")]), "kernel": op.pop("algorithm"), **op}
