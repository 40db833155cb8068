"""Depthwise convolution in 8-bit integers by dot products of bytes, four rows of the kernel at once (AVX-512 VNNI)."""

from backends.depthwise import is_depthwise
from backends.depthwise_dot import depthwise_dot, dot_options, serves_dot
from backends.dot import has_vnni

PRIORITY = 0


def serves(workload, target) -> bool:
    """See `serves_dot`."""
    return has_vnni(target) and "avx512bw" in target.features and is_depthwise(workload) and serves_dot(workload)


def options(workload, target) -> list[dict]:
    """See `dot_options`."""
    return dot_options(workload, target)


def lower(workload, target, option):
    """See `depthwise_dot`."""
    return depthwise_dot(workload, target, option)
