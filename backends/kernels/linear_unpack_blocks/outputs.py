"""Dense layer in float32 with block-sparse weights, vectors over a block's outputs."""

from backends.sparse_blocks import block_convolution, block_options, serves_blocks

PRIORITY = 0


def serves(workload, target) -> bool:
    """See `serves_blocks`."""
    return serves_blocks(workload, target)


def options(workload, target) -> list[dict]:
    """See `block_options`."""
    return block_options(workload, target)


def lower(workload, target, option):
    """See `block_convolution`."""
    return block_convolution(workload, target, option)
