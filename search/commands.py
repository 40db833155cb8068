"""What the commands do. Imported only when one runs, so that `netwright --help` answers at once."""

import sys
import time
from contextlib import contextmanager
from pathlib import Path

from search import front, progress, storage
from search.study_file import StudyError, StudyFile, load, seconds

MEASURE_S = 1800.0


def run(args) -> None:
    """Starts a study."""
    import msgspec

    study = load(args.study, args.set)
    changes = {key: value for key, value in (("trials", args.trials), ("time", args.time)) if value is not None}
    study = msgspec.structs.replace(study, study=msgspec.structs.replace(study.study, **changes))
    seconds(study.study.time)
    directory = Path(args.out or Path("runs") / study.study.name)
    with scorer_of(study, directory) as scorer:
        study = storage.create(directory, study)
        scorer.keep_network()
        _search(study, directory, scorer, args.storage, time.monotonic() + seconds(study.study.time))


def resume(args) -> None:
    """Goes on with a study."""
    directory = Path(args.directory)
    study = storage.reopen(directory)
    with scorer_of(study, directory) as scorer:
        _search(study, directory, scorer, args.storage, time.monotonic() + seconds(study.study.time))


def compress(args) -> None:
    """Writes a study of the user's network and runs it."""
    from search import compress

    end = time.monotonic() + seconds(args.time)
    study = compress.draft(args)
    directory = Path(args.out or Path("runs") / study.study.name)
    with scorer_of(study, directory) as scorer:
        storage.create(directory, study)
        scorer.keep_network()
        found = compress.looked(scorer)
    compress.show(found)
    study = compress.final(study, found)
    storage.rewrite(directory, study)
    with scorer_of(study, directory) as scorer:
        _search(study, directory, scorer, args.storage, end)


def show_front(args) -> None:
    """Prints the front."""
    rows = front.front_rows(Path(args.directory), _listed(args.objectives), args.storage)
    if args.format == "table":
        front.print_table(rows, f"front of {args.directory}")
        _say(f"next: netwright select {args.directory} --target local, or netwright export {args.directory}"
             " CANDIDATE --to FOLDER")
    elif args.format == "parquet":
        sys.stdout.buffer.write(front.parquet(rows))
    else:
        print(front.text(rows, args.format), end="" if args.format == "csv" else "\n")


def select(args) -> None:
    """Names one candidate within the limits, measured again."""
    directory = Path(args.directory)
    study = storage.reopen(directory)
    if args.target != study.target.name:
        raise StudyError(f"--target {args.target!r}: this study measured {study.target.name!r}; select for that")
    row = _best(front.front_rows(directory, None, args.storage), args)
    with scorer_of(study, directory) as scorer:
        figures = scorer.final(row["id"])
    low, high = figures["interval_ms"]
    print(f"{row['id']}  {row['candidate']}")
    print(f"accuracy {row['accuracy']:.4f} (validation), {figures['test_accuracy']:.4f} (test)")
    print(f"latency {figures['latency_ms']:.4f} ms on {args.target}, 95% interval {low:.4f} to {high:.4f} ms,"
          f" {len(figures['samples_ms'])} samples measured now")
    print(f"stored {row['stored_bytes']:,} bytes, {row['macs']:,} MACs, {row['parameters']:,} parameters")
    _say(f"next: netwright export {directory} {row['id']} --to FOLDER")


def export(args) -> None:
    """Writes a candidate's model folder."""
    from evaluators.export import export as write_export

    directory = Path(args.directory)
    study = storage.reopen(directory)
    row = _row_of(front.scored_rows(directory, args.storage), args.candidate, directory)
    known = {r["id"]: r for r in front.front_rows(directory, None, args.storage)}
    with scorer_of(study, directory) as scorer:
        write_export(scorer, {**row, **known.get(row["id"], {})}, Path(args.to))
    _say(f"next: python {Path(args.to) / 'run.py'} IMAGE (needs only apache-tvm, numpy and pillow)")


def measure(args) -> None:
    """Times a network, op by op, beside other runtimes."""
    from backends.worker import Worker, WorkerError
    from evaluators import peers
    from evaluators.measured import measure_model
    from evaluators.score import environment
    from search import measured

    wanted = _listed(args.vs) or []
    peers.check(wanted)
    target = _target(args)
    worker = Worker(environment(target.threads))
    try:
        result = worker.call(measure_model, args.model, args.input, target, wanted, args.retune, timeout_s=MEASURE_S)
    except WorkerError as error:
        raise StudyError(f"{args.model}: {error}") from None
    finally:
        worker.close()
    measured.show(args.model, result)
    _write_json(args.json, result)


def bench(args) -> None:
    """Runs one of the project's own benchmarks."""
    from search import bench as benchmarks

    if args.name not in benchmarks.names():
        raise StudyError(f"unknown benchmark {args.name!r}; known: {', '.join(benchmarks.names())}")
    benchmark = benchmarks.load(args.name)
    result = benchmark.run(_target(args))
    benchmark.show(result)
    _write_json(args.json, result)


def targets(args) -> None:
    """Lists targets."""
    from backends.target import describe, missing, names

    _list((name, describe(name), missing(name) or "reachable") for name in names())


def blocks(args) -> None:
    """Lists blocks."""
    from spaces.gene import load as load_gene
    from spaces.gene import names

    genes = [(name, load_gene("blocks", name)) for name in names("blocks")]
    _list((name, gene.__doc__.splitlines()[0], gene.SOURCE) for name, gene in genes)


def methods(args) -> None:
    """Lists compressions and recipes."""
    from spaces.gene import load as load_gene
    from spaces.gene import names

    genes = [(name, load_gene(kind, name)) for kind in ("compression", "recipes") for name in names(kind)]
    _list((name, gene.__doc__.splitlines()[0], ", ".join(getattr(gene, "APPLIES", ["training"])), f"gain: {gene.GAIN}", gene.SOURCE)
          for name, gene in genes)


def _search(study: StudyFile, directory: Path, scorer, url: str | None, end: float) -> None:
    """Searches until the time `end`, by `time.monotonic`."""
    import optuna

    from search.controller import Controller
    from search.executors import inline

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        scorer.teachers.prepare()
    except KeyboardInterrupt:
        raise StudyError(f"interrupted while the weights trained that candidates begin with; `netwright resume {directory}` goes on from"
                         " there") from None
    limit = end - time.monotonic()
    with storage.storage_errors(url or directory / "study.db"):
        controller = Controller(scorer.space, study, storage.open_storage(directory, url))
        tell = progress.Progress(controller, study.study.trials, limit)
        why = inline.run(controller, scorer.score, study.study.trials, limit, tell)
        _say(f"{tell.line()}\nended by {why}; measuring the front once more, whole")
        _finish(directory, controller, scorer, url)
    if not controller.front.members:
        raise StudyError(f"{directory}: no candidate was scored and feasible; {controller.tally.failed} failed,"
                         f" {controller.tally.infeasible} broke a constraint")
    _say(f"next: netwright select {directory} --target {study.target.name} --min-accuracy 0.95")


def _finish(directory: Path, controller, scorer, url: str | None) -> None:
    from evaluators.subject import FilesError
    from spaces.candidate import Candidate

    for text in controller.front.members:
        identity = Candidate.parse(text).id
        try:
            controller.set_final(identity, scorer.final(identity))
        except FilesError as error:
            _say(f"not measured again: {error}")
    rows = front.front_rows(directory, None, url)
    front.save(directory, rows)
    front.print_table(rows, f"{controller.tally.candidates} candidates, front of {len(rows)}")


@contextmanager
def scorer_of(study: StudyFile, directory: Path):
    """The scorer, with torch kept to the cores there are."""
    import warnings

    from evaluators.score import Scorer

    # torch.export warns about its own use of pytrees.
    warnings.filterwarnings("ignore", category=FutureWarning)
    with Scorer(study, directory) as scorer:
        yield scorer


def _best(rows: list[dict], args) -> dict:
    """Highest accuracy within the limits; with --min-accuracy, the fastest that reaches it."""
    limits = [("latency_ms", args.max_latency_ms, "at most"), ("stored_bytes", args.max_bytes, "at most"),
              ("accuracy", args.min_accuracy, "at least")]
    fitting = [row for row in rows if all(_holds(row[name], limit, word) for name, limit, word in limits)]
    if not fitting:
        nearest = ", ".join(f"{name} {word} {limit:g} (best on the front: {_extreme(rows, name, word):g})"
                            for name, limit, word in limits if limit is not None)
        raise StudyError(f"no front member has {nearest or 'a score'}; loosen a limit, or run the study longer")
    if args.min_accuracy is not None:
        return min(fitting, key=lambda row: row["latency_ms"])
    return max(fitting, key=lambda row: row["accuracy"])


def _holds(value: float, limit: float | None, word: str) -> bool:
    return limit is None or (value <= limit if word == "at most" else value >= limit)


def _extreme(rows: list[dict], name: str, word: str) -> float:
    values = [row[name] for row in rows] or [float("nan")]
    return min(values) if word == "at most" else max(values)


def _row_of(rows: list[dict], wanted: str, directory: Path) -> dict:
    found = [row for row in rows if wanted in (row["id"], row["candidate"]) or row["id"].startswith(wanted)]
    if len(found) != 1:
        raise StudyError(f"{wanted!r} names {len(found)} scored candidates of {directory}; `netwright front"
                         f" {directory}` lists ids")
    return found[0]


def _target(args):
    from dataclasses import replace

    from backends.target import reached

    target = reached(args.target)
    return replace(target, threads=args.threads) if args.threads else target


def _write_json(path: str | None, result: dict) -> None:
    import json

    if path:
        Path(path).write_text(json.dumps(result, indent=1))


def _listed(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",")] if text else None


def _list(rows) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 220
    console.print(table)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
