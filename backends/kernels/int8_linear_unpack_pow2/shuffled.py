"""Dense layer of 8-bit inputs with weights powers of two in 3 or 4 bits, looked up by byte shuffles in registers: less memory is read,
which is what a layer of one image waits for.
"""

from backends.convolution import convolution, convolution_options
from backends.few_bits import few_bits, serves_few_bits

PRIORITY = 0


def serves(workload, target) -> bool:
    """See `serves_few_bits`."""
    return serves_few_bits(workload, target)


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, few_bits(workload, target))


def lower(workload, target, option):
    """See `convolution`."""
    return convolution(workload, target, option, few_bits(workload, target))
