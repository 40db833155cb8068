"""Convolution of few channels in 8-bit integers, such as a network's first: the bytes of a kernel's row lie side by side in an
image that lies channels last, and are multiplied four at a time whatever pixel they are of (`backends/dot.py`)."""

from backends.arithmetic import dots_of_rows
from backends.convolution import convolution, convolution_options
from backends.dot import BYTES, dot_of
from backends.workload import CHANNELS_LAST

PRIORITY = 0


def serves(workload, target) -> bool:
    """Channels that do not fill words of four; one group, kernels of several columns, no dilation along rows."""
    odd = workload["x"].shape[1] % BYTES and workload["groups"] == 1
    rows = workload["weight"].shape[3] > 1 and workload["dilation"][1] == 1
    return bool(dot_of(target) and odd and rows and workload["x"].layout == CHANNELS_LAST)


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, dots_of_rows(target))


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, dots_of_rows(target))
