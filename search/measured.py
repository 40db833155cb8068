"""What `netwright measure` prints: the network's time beside other runtimes', and the kernel of each op."""

from rich.console import Console
from rich.table import Table

FIGURES = (("us", 2), ("gflops", 1), ("percent_of_peak", 0), ("gbps", 1), ("percent_of_bandwidth", 0))


def show(name: str, result: dict) -> None:
    """Tables of ops and runtimes."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(_ops(result["ops"]))
    console.print(_runtimes(name, result))
    console.print(f"fallback {result['fallback']}, layout changes {result['layout_changes']}, compiled in"
                  f" {result['compile_seconds']:.1f} s, {result['tune_seconds']:.1f} s of it measuring kernels;"
                  f" largest difference from torch {result['error']:.1e}")


def _ops(ops: list[dict]) -> Table:
    table = Table(title="kernels, each measured alone without the steps fused to it")
    for column in ("op", "workload", "kernel", "option", "us", "GFLOP/s", "% of peak", "GB/s", "% of bandwidth", "bound"):
        table.add_column(column, justify="left" if column in ("op", "workload", "kernel", "option", "bound") else "right")
    for op in ops:
        if not op["once"]:
            option = " ".join(f"{key}={value}" for key, value in op["option"].items())
            shapes = op["workload"].partition("(")[2].rstrip(")")
            figures = [_rounded(op[key], digits) for key, digits in FIGURES]
            table.add_row(op["op"], shapes, op["kernel"], option, *figures, op["bound"] or "")
    return table


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _runtimes(name: str, result: dict) -> Table:
    table = Table(title=f"{name} on {result['target']}, threads {result['threads']}, one input, runtimes in turns")
    for column in ("runtime", "ms", "95% interval", "netwright's time over its", "95% interval"):
        table.add_column(column)
    table.add_row("netwright", *_times(result), "", "")
    for peer, figures in result["peers"].items():
        low, high = figures["ratio_interval"]
        table.add_row(peer, *_times(figures), f"{figures['ratio']:.3f}", f"{low:.3f} to {high:.3f}")
    return table


def _times(figures: dict) -> tuple[str, str]:
    low, high = figures["interval_ms"]
    return f"{figures['latency_ms']:.4f}", f"{low:.4f} to {high:.4f}"
