"""Average pool of uint8 images: sums in int32, requantised once a window."""

from backends.emit import cast, constant
from backends.epilogue import nearest_steps
from backends.pooling import pool, pool_options

PRIORITY = 0
options = pool_options


def serves(workload, target) -> bool:
    """Any window without padding."""
    return True


def lower(workload, target, option):
    """See `pool`."""
    zero = workload["x_zero_point"] * workload["kernel_size"][0] * workload["kernel_size"][1]

    def last(total, inside, lanes):
        real = cast(total - constant(zero, "int32", lanes), "float32", lanes) * constant(workload["scale"], "float32", lanes)
        return nearest_steps(real / constant(workload["divisor"], "float32", lanes), workload["zero_point"], lanes)
    return pool(workload, target, option, lambda lanes: constant(0, "int32", lanes),
                lambda total, x, lanes: total + cast(x, "int32", lanes), last, "int32")
