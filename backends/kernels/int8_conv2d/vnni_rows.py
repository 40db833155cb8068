"""Convolution of few channels in 8-bit integers, such as a network's first: the bytes of a kernel's row lie side by side in an
image that lies channels last, and are multiplied four at a time whatever pixel they are of (AVX-512 VNNI)."""

from backends.arithmetic import VNNI_ROWS, has_vnni
from backends.convolution import convolution, convolution_options
from backends.workload import CHANNELS_LAST

PRIORITY = 0


def serves(workload, target) -> bool:
    """Channels that do not fill words of four; one group, kernels of several columns, no dilation along rows."""
    odd = workload["x"].shape[1] % VNNI_ROWS.chunk and workload["groups"] == 1
    rows = workload["weight"].shape[3] > 1 and workload["dilation"][1] == 1
    return bool(has_vnni(target) and odd and rows and workload["x"].layout == CHANNELS_LAST)


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, VNNI_ROWS)


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, VNNI_ROWS)
