"""What served each op of a compiled network, and how near it comes to what the machine can do."""

from dataclasses import dataclass

from backends.fusion import Group
from backends.roofline import Roofline, flops, moved_bytes
from backends.store import Trial
from backends.tune import bare
from backends.workload import Workload

FALLBACK = "fallback"


@dataclass(frozen=True)
class OpReport:
    """Which kernel serves a workload of the graph; `node` names the group's result, `steps` what is fused to it.

    `us`: the kernel alone, measured without its steps. `gflops` counts what the op is by definition, so that a
    kernel which needs fewer products can pass the peak; `percent_of_bound` is the roofline's time over the kernel's, where
    `bound` is "compute" or "memory". `once`: it runs when the network is loaded, not at each inference. A
    "fallback" is not measured alone: None. `weights`: "packed" if the kernel computes from packed weights, "unpacked" if they
    are unpacked when the network is loaded, since that is faster here or no kernel does without; else empty.
    """

    node: str
    op: str
    algorithm: str
    option: dict
    us: float | None
    workload: str
    steps: tuple[str, ...]
    gflops: float | None
    percent_of_peak: float | None
    gbps: float | None
    percent_of_bandwidth: float | None
    bound: str | None
    percent_of_bound: float | None
    once: bool
    weights: str


def report_on(group: Group, workload: Workload, trial: Trial, roofline: Roofline, once: bool, weights: str = "") -> OpReport:
    """The figures of one workload's kernel."""
    measured = bare(workload)
    compute, memory = roofline.compute_us(measured), roofline.memory_us(measured)
    return OpReport(group.name, workload.op, trial.algorithm, trial.option, trial.us, str(workload),
                    tuple(step.op for step in workload.then), flops(measured) / trial.us / 1e3, 100 * compute / trial.us,
                    moved_bytes(measured) / trial.us / 1e3, 100 * memory / trial.us,
                    "compute" if compute > memory else "memory", 100 * roofline.bound_us(measured) / trial.us, once,
                    weights)


def unserved(group: Group) -> OpReport:
    """An op that TVM lowers in its own way; its kernel is not measured alone."""
    workload = group.parts[0].workload
    return OpReport(group.name, workload.op, FALLBACK, {}, None, str(workload), (), None, None, None, None, None, None, False, "")
