"""Dense layer whose weights are a tensor train: a chain of small products, one a core.
"""

from backends.tensor_train import serves_train, train
from backends.workload import Lowering, one_way

PRIORITY = 0
options = one_way


def serves(workload, target) -> bool:
    """See `serves_train`."""
    return serves_train(workload)


def lower(workload, target, option) -> Lowering:
    """See `train`."""
    return train(workload, target)
