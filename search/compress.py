"""`netwright compress`: from a network that the user has to a study of how each of its layers is compressed.

The network is first trained on, on the user's data; then each chain is tried on each layer alone (`evaluators.sensitivity`). What a layer
minds too much is left out of the study, which starts with uniform settings and with mixtures of what layers mind least.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from search.bench import console
from search.study_file import StudyError, StudyFile, of_table
from spaces.candidate import Candidate, chain_text, parse_chain

if TYPE_CHECKING:
    from evaluators.sensitivity import Effect, Sensitivity

# Chains that each layer is offered, as far as they fit it. Integers are always entropy coded, which costs neither accuracy nor time.
CHAINS = ("none", "int8+huffman", "intn-bits6+huffman", "intn-bits4+huffman", "intn-bits3+huffman", "magnitude-keep0.5+int8+huffman",
          "l1_filters-keep0.75+int8+huffman", "l1_filters-keep0.5+int8+huffman", "l1_filters-keep0.5",
          "l1_filters-keep0.75+intn-bits4+huffman", "l1_filters-keep0.5+intn-bits4+huffman")
WORST_POINTS = 10.0  # what a chain may cost on one layer, before any training
MIXTURES = 8


def draft(args) -> StudyFile:
    """The study of a command line, in which every layer is offered everything. StudyError names an argument that cannot be."""
    source = "npz" if args.data.endswith(".npz") else "folder"
    table = {
        "study": {"name": _name(args.model), "trials": 1000, "time": args.time, "objectives": ["accuracy", "latency_ms", "stored_bytes"]},
        "data": {"source": source, "path": args.data, "validation": 0.5, "validation_from": "test", "augment": ["crop", "flip"]},
        "train": {"epochs": 1, "finetune_epochs": 2, "rungs": ["inherit", "finetune:0"], "batch": 128, "learning_rate": 0.02,
                  "finetune_learning_rate": 0.01},
        "model": {"source": args.model, "weights": args.weights, "epochs": 4, "mean": _numbers("--mean", args.mean),
                  "std": _numbers("--std", args.std)},
        "target": {"name": args.target},
        "space": {"compression": {"*": list(CHAINS)}},
    }
    return of_table(table, args.set, "netwright compress")


def looked(scorer) -> "Sensitivity":
    """How much the network's layers mind what the study offers them, after it has been trained on; progress on standard error."""
    from evaluators.sensitivity import sensitivity
    from evaluators.training.supernet import anchor

    scorer.teachers.prepare()
    layer, = anchor(scorer.space).layers
    chains = {role: [parse_chain(text) for text in scorer.space.choices.get(f"head.given.{role}.compression", ())]
              for role in layer.block.roles()}
    return sensitivity(layer, scorer.teachers.own, chains, scorer.dataset, lambda tried: print(tried, file=sys.stderr, flush=True))


def final(study: StudyFile, found: "Sensitivity") -> StudyFile:
    """The study with what its layers do not mind too much, and with candidates to start from. StudyError if that is nothing."""
    mild = replace(found, effects=tuple(effect for effect in found.effects if effect.points <= WORST_POINTS))
    if not mild.effects:
        raise StudyError(f"each of {', '.join(CHAINS[1:])} costs each layer more than {WORST_POINTS:g} points; are the weights, --mean and"
                         f" --std those of the network? It tells {found.accuracy:.1%} of images right")
    options = {role: [chain_text(effect.chain) for effect in mild.of(role)] for role in mild.roles}
    space = msgspec.structs.replace(study.space, compression={"*": ["none"], **options})
    start = msgspec.structs.replace(study.start, candidates=list(dict.fromkeys(map(str, _starts(mild, options)))))
    return msgspec.structs.replace(study, space=space, start=start)


def _starts(mild: "Sensitivity", options: dict[str, list[str]]) -> Iterator[Candidate]:
    """Each chain on all layers, or as much of it as they are offered, and mixtures."""
    from evaluators.sensitivity import mixtures

    every = [chain_text(parse_chain(text)) for text in CHAINS]
    uniform = ({role: parse_chain(_as_much(text, offered)) for role, offered in options.items()} for text in every)
    for chains in (*uniform, *mixtures(mild, MIXTURES)):
        yield Candidate((replace(mild.layer, compressions=tuple(chains.items())),))


def _as_much(text: str, offered: list[str]) -> str:
    """Of the chains that are offered the longest that is part of another."""
    methods = set(text.split("+"))
    return max((chain for chain in offered if methods >= set(chain.split("+"))), key=lambda chain: chain.count("+"), default="none")


def show(found: "Sensitivity") -> None:
    """By layer, the points that each chain costs, and how much smaller the network is with it."""
    from rich.table import Table

    chains = list(dict.fromkeys(chain_text(effect.chain) for effect in found.effects))
    table = Table(title=f"accuracy {found.accuracy:.2%}; points lost by one layer's compression, untrained (thousandths of all bytes saved)")
    for column in ("layer", *chains):
        table.add_column(column, overflow="fold")
    for role in found.roles:
        effects = {chain_text(effect.chain): effect for effect in found.of(role)}
        table.add_row(role, *(_figures(effects.get(chain), found.dense.stored_bytes) for chain in chains))
    console().print(table)


def _figures(effect: "Effect | None", whole: int) -> str:
    return f"{effect.points:+.1f} ({1000 * (1 - effect.stored_bytes / whole):.0f})" if effect else ""


def _name(model: str) -> str:
    """What the study is called: the function, or the file without its ending."""
    stem = Path(model).stem if model.endswith(".onnx") else model.rpartition(":")[2]
    return re.sub(r"[^\w.-]", "_", stem) or "model"


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError:
        raise StudyError(f"{option} {text!r} must be numbers joined by commas, as 0.485,0.456,0.406") from None
