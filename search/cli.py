"""The command line. Parsing imports nothing heavy; a user's mistake is one line and exit code 2."""

import argparse
import errno
import os
import sys

from search import bench

COMMANDS = {
    "run": "run a study file and print its front", "resume": "go on with a study's directory",
    "compress": "search the compression of each layer of a network that you have",
    "front": "print the Pareto front of a study", "select": "name one candidate within limits, measured again",
    "export": "write a candidate's model folder", "targets": "list the devices that can be measured",
    "measure": "time a network on a target, op by op, beside other runtimes", "bench": "the project's own benchmarks",
    "blocks": "list the building blocks", "methods": "list compressions and recipes",
}


def main(argv: list[str] | None = None) -> None:
    """The `netwright` command. Exits with 2 and one line on standard error for a user's mistake."""
    args = _parser().parse_args(argv)
    try:
        _command(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(_disk(error))
    except ValueError as error:
        if not _is_users(error):
            raise
        _fail(str(error))


def _command(args) -> None:
    from search import commands

    getattr(commands, {"front": "show_front"}.get(args.command, args.command))(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("netwright", description="Finds small, fast neural networks for a given device.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {name: subparsers.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}
    _run_options(made["run"])
    _compress_options(made["compress"])
    for name in ("resume", "front", "select", "export"):
        made[name].add_argument("directory", metavar="DIR", help="the study's directory")
        made[name].add_argument("--storage", metavar="URL", help="Optuna storage, if not DIR/study.db")
    made["front"].add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table")
    made["front"].add_argument("--objectives", metavar="A,B", help="metrics to compare by, if not the study's")
    _select_options(made["select"])
    made["export"].add_argument("candidate", metavar="CANDIDATE", help="id, or its beginning")
    made["export"].add_argument("--to", metavar="FOLDER", required=True)
    _measure_options(made["measure"])
    made["bench"].add_argument("name", metavar="NAME", help=", ".join(bench.names()))
    _target_options(made["bench"])
    return parser


def _measure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="FILE.onnx, FILE.pt2, module:function, NAME@SIZE of the zoo, or a candidate")
    parser.add_argument("--vs", metavar="A,B", default="", help="other runtimes: onnxruntime, openvino, torch")
    parser.add_argument("--input", type=_shape, default=(1, 3, 224, 224), metavar="1x3x224x224", help="shape of the input")
    parser.add_argument("--retune", action="store_true", help="measure every kernel again, whatever the store knows")
    _target_options(parser)


def _target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="local")
    parser.add_argument("--threads", type=_positive, metavar="N", help="instead of the target's own")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY.toml")
    parser.add_argument("--out", metavar="DIR", help="where results go (default: runs/<name>)")
    parser.add_argument("--trials", type=_positive, metavar="N", help="candidates to score")
    parser.add_argument("--time", metavar="15m", help="when to stop")
    parser.add_argument("--storage", metavar="URL", help="Optuna storage, if not DIR/study.db")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file")


def _compress_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="FILE.onnx, or module:function")
    parser.add_argument("--weights", metavar="FILE", default="", help=".safetensors, .npz, .pt, .pth or .th")
    parser.add_argument("--data", metavar="PATH", required=True, help="a folder or zip of images by class, or an .npz file")
    parser.add_argument("--target", required=True)
    parser.add_argument("--mean", metavar="A,B,C", default="", help="what the network wants taken from pixels in [0, 1]")
    parser.add_argument("--std", metavar="A,B,C", default="", help="what it wants them divided by")
    parser.add_argument("--out", metavar="DIR", help="where results go (default: runs/<name>)")
    parser.add_argument("--time", metavar="1h", default="1h", help="when to stop")
    parser.add_argument("--storage", metavar="URL", help="Optuna storage, if not DIR/study.db")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the study that is written")


def _select_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True)
    parser.add_argument("--max-latency-ms", type=float, metavar="X")
    parser.add_argument("--max-bytes", type=int, metavar="N")
    parser.add_argument("--min-accuracy", type=float, metavar="A")


def _shape(text: str) -> tuple[int, ...]:
    sides = text.split("x")
    if not all(side.isdigit() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} must be whole numbers joined by x, as 1x3x224x224")
    return tuple(int(side) for side in sides)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _is_users(error: ValueError) -> bool:
    """Whether the error is one of this project's, which speak to the user, and not a fault of the code."""
    return type(error).__module__.split(".")[0] in ("search", "spaces", "evaluators", "backends")


def _disk(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'the disk'}: no space left; free some and `netwright resume` goes on"
    return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")


def _fail(text: str) -> None:
    print(f"netwright: {' '.join(text.split())}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
