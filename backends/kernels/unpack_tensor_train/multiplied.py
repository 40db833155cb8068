"""A tensor train to the matrix that it stands for, core by core: run once, when a network is loaded."""

from backends.tensor_train import unpack_train
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way
ALONE = True


def serves(workload, target) -> bool:
    """Two cores or more."""
    return len(workload["outputs"]) > 1


def lower(workload, target, option) -> Lowering:
    """See `unpack_train`."""
    return unpack_train(workload)
