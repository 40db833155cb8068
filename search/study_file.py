"""Study files: what a study explores, on which data and target, and when it ends. TOML, checked by type.

    [study]  name seed trials time sampler objectives constraints
    [data]   source path validation augment context
    [train]  epochs finetune_epochs rungs batch learning_rate finetune_learning_rate weight_decay optimizer schedule label_smoothing ema
             precision device
    [model]  source weights epochs mean std    (a network of the user's, in place of the space's stages and head)
    [start]  candidates
    [supernet] epochs batch learning_rate shrinking     (where a rung inherits weights)
    [teacher] candidate epochs members, or model mean std    (needed where a recipe learns from a teacher)
    [target] name
    [space]  stages head compression recipes
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(ge=0)]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class StudyError(ValueError):
    """A study file or directory that cannot be used: names the value, the place and what would be right."""


class _Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class StudyTable(_Table):
    """[study]: when to stop (new candidates, and seconds as "90s", "15m", "2h") and what to optimise."""

    name: Annotated[str, Meta(pattern=r"^[\w.-]+$")]
    objectives: Annotated[list[str], Meta(min_length=1)]
    seed: Annotated[int, Meta(ge=0)] = 0
    trials: Positive = 100
    time: str = "1h"
    sampler: str = "nsga2"
    constraints: list[str] = []


class DataTable(_Table):
    """[data]: a source (a file of evaluators/training/sources), its path, the share held out for validation and of what: of the test images
    for a network that has been trained on all others; of a source of sequences `context`, how many frames an image has on either side of its
    own."""

    source: str
    path: str = ""
    validation: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    validation_from: Literal["train", "test"] = "train"
    augment: list[str] = []
    context: Annotated[int, Meta(ge=0)] = 0


class TrainTable(_Table):
    """[train]: epochs before and after compression, and their highest learning rates; `rungs`: how much of that a candidate gets before
    the better ones get more (`evaluators.rungs`); `ema` is the decay of the weights' running mean, 0 for none."""

    epochs: Positive
    finetune_epochs: Positive
    rungs: Annotated[tuple[str, ...], Meta(min_length=1)] = ("full",)
    batch: Annotated[int, Meta(ge=2)] = 64
    learning_rate: Rate = 0.2
    finetune_learning_rate: Rate = 0.02
    weight_decay: Rate = 5e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class SupernetTable(_Table):
    """[supernet]: how the weights are trained that candidates inherit; what is not said here is as in [train]. `shrinking`: the share of
    the steps in which smaller numbers join the greatest one after another, 0 for all at once."""

    epochs: Positive = 30
    batch: Annotated[int, Meta(ge=2)] = 64
    learning_rate: Rate = 0.03
    shrinking: Annotated[float, Meta(ge=0, le=1)] = 0.0


class TeacherTable(_Table):
    """[teacher]: what recipes learn from: a `candidate`, trained once for so many `epochs`, or an ensemble of several `members` of it; or
    a `model`: "supernet", or a network as `netwright measure` reads it, which wants pixels in [0, 1] less `mean`, divided by `std` (if not
    said, as the study normalises)."""

    candidate: str = ""
    epochs: Annotated[int, Meta(ge=0)] = 0
    members: Positive = 1
    model: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class ModelTable(_Table):
    """[model]: a network to compress, as `netwright measure` reads it, but for candidates and .pt2 files; the file of its `weights`; and how
    it wants pixels in [0, 1]: less `mean`, divided by `std` (if not said, as the study normalises). It is trained on for `epochs` on the
    study's data before candidates begin with its weights."""

    source: Annotated[str, Meta(min_length=1)]
    weights: str = ""
    epochs: Annotated[int, Meta(ge=0)] = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class StartTable(_Table):
    """[start]: candidates of the space that are scored before the sampler draws."""

    candidates: list[str] = []


class TargetTable(_Table):
    """[target]: a name of `netwright targets`, or the path of a .toml file."""

    name: str = "local"


class SpaceTable(_Table):
    """[space]: see spaces.space.Space.from_tables, which checks its tables."""

    stages: list[dict[str, Any]] = []
    head: dict[str, Any] = {}
    compression: dict[str, list[str]] = {}
    recipes: list[str] = []


class StudyFile(_Table):
    """A whole study file. `provenance` is written by `run`."""

    study: StudyTable
    data: DataTable
    train: TrainTable
    space: SpaceTable
    target: TargetTable = TargetTable()
    model: ModelTable | None = None
    start: StartTable = StartTable()
    supernet: SupernetTable = SupernetTable()
    teacher: TeacherTable | None = None
    provenance: dict[str, Any] = {}


def load(path: Path, overrides: list[str] = ()) -> StudyFile:
    """The study of a file, with `key.path=value` overrides (values as in TOML, else text)."""
    try:
        table = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist; give the path of a study file such as studies/digits.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not TOML: {error}") from None
    return of_table(table, overrides, path)


def of_table(table: dict, overrides: list[str], path: Path | str) -> StudyFile:
    """The study of a table that came from `path`, with overrides as for `load`."""
    for override in overrides:
        _override(table, override)
    try:
        study = msgspec.convert(table, StudyFile)
    except msgspec.ValidationError as error:
        raise StudyError(f"{path}: {_plain(error)}") from None
    _check(path, study)
    return study


def seconds(text: str) -> float:
    """Seconds of a duration such as "90s", "15m", "2h" or "1h30m"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise StudyError(f"duration {text!r} cannot be read; write it as 90s, 15m or 2h")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _override(table: dict, text: str) -> None:
    path, equals, value = text.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not parents:
        raise StudyError(f"--set {text!r} cannot be read; write it as --set data.path=cifar10.zip")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise StudyError(f"--set {text!r}: {parent} is not a table")
    try:
        table[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = value


def _check(path: Path, study: StudyFile) -> None:
    from evaluators.constraint import Constraint
    from evaluators.evaluator import metrics
    from evaluators.rungs import RungError, ladder
    from search.sampling import names

    try:
        constrained = [Constraint.parse(text).metric for text in study.study.constraints]
    except ValueError as error:
        raise StudyError(f"{path}: study.constraints: {error}") from None
    for key, used in (("objectives", study.study.objectives), ("constraints", constrained)):
        for metric in used:
            if metric not in metrics():
                raise StudyError(f"{path}: study.{key} names {metric!r}, which is not computed; known:"
                                 f" {', '.join(metrics())}")
    if len(set(study.study.objectives)) < len(study.study.objectives):
        raise StudyError(f"{path}: study.objectives names one metric twice")
    if study.study.sampler not in names():
        raise StudyError(f"{path}: study.sampler is {study.study.sampler!r}; known: {', '.join(names())}")
    seconds(study.study.time)
    try:
        ladder(study.train)
    except RungError as error:
        raise StudyError(f"{path}: train.rungs: {error}") from None
    _check_model(path, study)
    _check_teacher(path, study)
    if study.data.context:
        _check_context(path, study.data)


def _check_model(path: Path, study: StudyFile) -> None:
    if study.model is None:
        return
    if study.space.stages or study.space.head:
        raise StudyError(f"{path}: a study has a [model] of the user's, or space.stages and space.head; leave out one of the two")
    if len(study.model.mean) != len(study.model.std):
        raise StudyError(f"{path}: [model] has {len(study.model.mean)} numbers as mean and {len(study.model.std)} as std; give one of each a"
                         " channel")


def _check_context(path: Path, data: DataTable) -> None:
    from evaluators.training import sources

    if not sources.of_sequences(sources.load(data.source)):
        raise StudyError(f"{path}: data.context is {data.context}, and the source {data.source} gives images, which have none; leave it"
                         " out, or take a source of sequences such as frames")


def _check_teacher(path: Path, study: StudyFile) -> None:
    from spaces.candidate import Candidate
    from spaces.gene import SpaceError, parse

    teacher = study.teacher
    if teacher is not None and (bool(teacher.candidate) == bool(teacher.model) or bool(teacher.candidate) != bool(teacher.epochs)):
        raise StudyError(f"{path}: [teacher] needs a candidate and epochs, or a model")
    if teacher is not None and len(teacher.mean) != len(teacher.std):
        raise StudyError(f"{path}: [teacher] has {len(teacher.mean)} numbers as mean and {len(teacher.std)} as std; give one of each a"
                         " channel")
    if teacher is not None and teacher.candidate:
        try:
            Candidate.parse(teacher.candidate)
        except SpaceError as error:
            raise StudyError(f"{path}: teacher.candidate: {error}") from None
    taught = [t for text in study.space.recipes for t in text.split("+") if t != "none"]
    if teacher is None and any(parse("recipes", token).needs_teacher for token in taught):
        raise StudyError(f"{path}: space.recipes has {taught[0]}, which needs a [teacher] with a candidate and epochs, or a model")


def _plain(error: msgspec.ValidationError) -> str:
    """`train.epochs: expected int, got str` from msgspec's message."""
    text, _, place = str(error).partition(" - at `$")
    return f"{place.strip('`.').lstrip('.')}: {text}" if place else text
