"""Export: a folder that runs without this project.

    model.so             the compiled network (code only), for the card's target
    weights.safetensors  the stored tensors: what `stored_bytes` counts
    model.pt2            the same network for plain torch: `torch.export.load("model.pt2").module()`
    run.py               classifies an image with tvm, numpy and Pillow
    candidate.txt, card.json, card.md
"""

import json
import os
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluators.compiled import load_program
from evaluators.subject import COPIED, check_files


class ExportError(ValueError):
    """An export that would overwrite something: names the path."""


def export(scorer, row: dict[str, Any], folder: Path) -> None:
    """Writes the folder of the candidate `row` (a row of the front). ExportError if `folder` is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"--to {folder} exists and is not an empty folder; give another")
    source = scorer.folder(row["id"])
    check_files(source)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        for name in COPIED:
            shutil.copyfile(source / name, aside / name)
        shutil.copyfile(Path(__file__).parent / "templates" / "run.py", aside / "run.py")
        _save_plain(source, aside / "model.pt2")
        card = _card(scorer, row, source)
        (aside / "card.json").write_text(json.dumps(card, indent=1))
        (aside / "card.md").write_text(_markdown(card))
        if folder.exists():
            folder.rmdir()
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _save_plain(source: Path, path: Path) -> None:
    """model.pt2 with our ops expanded to aten by their references."""
    import torch

    import spaces.ops

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(load_program(source).run_decompositions(spaces.ops.references()), path)


def _card(scorer, row: dict[str, Any], source: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    timing, data = json.loads((source / "timing.json").read_text()), scorer.dataset
    tensors = load_file(source / "weights.safetensors")
    return {
        "candidate": row["candidate"], "id": row["id"],
        "data": {"source": scorer.study.data.source, "path": scorer.study.data.path, "classes": list(data.classes),
                 "shape": list(data.shape), "mean": data.mean.tolist(), "std": data.std.tolist(),
                 "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}},
        "metrics": {name: row[name] for name in ("accuracy", "test_accuracy", "latency_ms", "interval_ms",
                                                 "stored_bytes", "macs", "parameters", "peak_memory_bytes")},
        "target": {"name": scorer.study.target.name, **scorer.study.provenance},
        "parameters": timing["compiled"]["parameters"],
        "bytes_by_tensor": {name: tensor.nbytes for name, tensor in tensors.items()},
        "header_bytes": (source / "weights.safetensors").stat().st_size - sum(t.nbytes for t in tensors.values()),
        "kernels": [{key: op[key] for key in ("node", "workload", "algorithm")} for op in timing["compiled"]["ops"]],
        "verification": timing["verification"], "netwright": metadata.version("netwright"),
    }


def _markdown(card: dict[str, Any]) -> str:
    figures, low_high = card["metrics"], card["metrics"]["interval_ms"]
    test = "not measured yet" if figures["test_accuracy"] is None else f"{figures['test_accuracy']:.4f}"
    return f"""# {card['id']}

    {card['candidate']}

| | |
|---|---|
| accuracy, validation ({card['data']['images']['validation']} images) | {figures['accuracy']:.4f} |
| accuracy, test ({card['data']['images']['test']} images) | {test} |
| latency, measured on {card['target']['name']} ({card['target'].get('processor', '')}) | {figures['latency_ms']:.4f} ms, 95% interval {low_high[0]:.4f} to {low_high[1]:.4f} |
| stored bytes (payload of weights.safetensors; its header: {card['header_bytes']}) | {figures['stored_bytes']:,} |
| multiply-accumulates | {figures['macs']:,} |
| parameters | {figures['parameters']:,} |
| peak memory of activations | {figures['peak_memory_bytes']:,} bytes |

Data: {card['data']['source']} {card['data']['path']}, classes {', '.join(card['data']['classes'])}.

Run it: `python run.py IMAGE`, with apache-tvm {card['target'].get('apache-tvm', '')}, numpy and pillow. In plain
torch: `torch.export.load("model.pt2").module()`.
"""
