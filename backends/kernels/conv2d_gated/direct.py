"""1x1 convolution in float32 of an image gated channel by channel: the packed weights are gated, then multiplied
(`backends.gating`)."""

from backends.arithmetic import FLOAT
from backends.convolution import convolution, convolution_options
from backends.emit import bind, load, loop, scratch, splat, store

PRIORITY = 0


def serves(workload, target) -> bool:
    """One image in float32."""
    return workload["x"].dtype == "float32" and workload["x"].shape[0] == 1


def options(workload, target) -> list[dict]:
    """See `product_options`."""
    return convolution_options(workload, target, FLOAT)


def lower(workload, target, option):
    """See `convolution`; each thread gates all weights for itself."""
    steps = workload["x"].shape[1]

    def weights(buffers, packed, blocks):
        gated = scratch(packed.size, "float32")
        for block in blocks:
            with loop(block.count) as turn, loop(steps) as k:
                row = bind((block.base + turn * block.width) * steps + k * block.width)
                gate, place = bind(load(buffers["weight.gate"], k)), 0
                for vector in block.vectors:
                    product = load(buffers["weight"], row + place, vector.lanes) * splat(gate, vector.lanes)
                    store(gated, product, row + place, vector.lanes)
                    place += vector.lanes
        return gated
    return convolution(workload, target, option, FLOAT, weights=weights)
