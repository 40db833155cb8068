"""Export: a folder that runs without this project.

    model.so             the compiled network (code only), for the card's target
    weights.safetensors  the stored tensors: what `stored_bytes` counts
    weights.nw           those of them that are entropy coded, where any are
    model.pt2            the same network for plain torch: `torch.export.load("model.pt2").module()`
    run.py, weights.py   classifies an image with tvm, numpy and Pillow
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
from evaluators.subject import check_files, files_to_copy
from spaces import weights
from spaces.candidate import Candidate
from spaces.compress import coded


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
        for name in files_to_copy(source):
            shutil.copyfile(source / name, aside / name)
        for script in (Path(__file__).parent / "templates" / "run.py", Path(weights.__file__)):
            shutil.copyfile(script, aside / script.name)
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
    timing, data = json.loads((source / "timing.json").read_text()), scorer.dataset
    files = weights.sizes(source)
    return {
        "candidate": row["candidate"], "id": row["id"],
        "data": {"source": scorer.study.data.source, "path": scorer.study.data.path, "classes": list(data.classes),
                 "shape": list(data.shape), "mean": data.mean.tolist(), "std": data.std.tolist(),
                 "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}},
        "metrics": {name: row[name] for name in ("accuracy", "test_accuracy", "latency_ms", "interval_ms",
                                                 "stored_bytes", "macs", "parameters", "peak_memory_bytes")},
        "target": {"name": scorer.study.target.name, **scorer.study.provenance},
        "parameters": timing["compiled"]["parameters"],
        "bytes_by_tensor": files,
        "header_bytes": {file: (source / file).stat().st_size - sum(tensors.values()) for file, tensors in files.items()},
        "coding_would_grow": _grown(row["candidate"], files[weights.PLAIN_FILE]),
        "kernels": [{key: op[key] for key in ("node", "workload", "algorithm")} for op in timing["compiled"]["ops"]],
        "verification": timing["verification"], "netwright": metadata.version("netwright"),
    }


def _grown(candidate: str, plain: dict[str, int]) -> list[str]:
    """Tensors of entropy-coded layers that are stored as they are, since their codes would be larger."""
    below = tuple(f"{path}." for path in coded(Candidate.parse(candidate).chains))
    return [name for name in plain if below and name.startswith(below)]


def _entropy_coded(card: dict[str, Any]) -> str:
    """What the card says of entropy coding; nothing where no layer asks for it."""
    files = card["bytes_by_tensor"].get(weights.CODED_FILE, {})
    grown = ", ".join(card["coding_would_grow"])
    said = f"Entropy coded: {len(files)} tensors, {sum(files.values()):,} bytes." if files else ""
    return said + (f" Stored as they are, since codes would be larger: {grown}." if grown else "")


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
| stored bytes (payload of the weights; headers: {sum(card['header_bytes'].values())}) | {figures['stored_bytes']:,} |
| multiply-accumulates | {figures['macs']:,} |
| parameters | {figures['parameters']:,} |
| peak memory of activations | {figures['peak_memory_bytes']:,} bytes |

{_entropy_coded(card)}

Data: {card['data']['source']} {card['data']['path']}, classes {', '.join(card['data']['classes'])}.

Run it: `python run.py IMAGE`, with apache-tvm {card['target'].get('apache-tvm', '')}, numpy and pillow. In plain
torch: `torch.export.load("model.pt2").module()`.
"""
