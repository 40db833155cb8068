"""What runs in the worker process: compiling, verifying and measuring a candidate's saved network.

Compiled kernels may crash or hang, so the functions of this module are called through
`backends.worker.Worker`. They take paths and plain values and give plain values, and meet the
candidate only in its folder: model.pt2, weights.safetensors, model.so.
"""

from pathlib import Path
from typing import Any

import numpy as np


def load_program(folder: Path):
    """The exported program of a candidate's folder, with the deployed ops registered first."""
    import torch

    import spaces.ops

    spaces.ops.register_all()
    return torch.export.load(folder / "model.pt2")


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """The stored tensors of a candidate by name."""
    from safetensors.numpy import load_file

    return load_file(folder / "weights.safetensors")


def compile_and_verify(folder: Path, target_name: str, images: np.ndarray) -> dict[str, Any]:
    """Compiles model.pt2 to model.so and compares it with its reference on `images` [N, C, H, W].

    Returns the compiler's report and the verification, as JSON would hold them.
    """
    from dataclasses import asdict

    from backends.compile import compile_program
    from backends.target import load
    from backends.verify import verify

    program, target = load_program(folder), load(target_name)
    report = compile_program(program, target, folder / "model.so")
    checked = verify(program, report, load_weights(folder), images, target)
    return {"compiled": asdict(report), "verification": asdict(checked)}
