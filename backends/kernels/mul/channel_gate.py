"""A float32 image times one factor a channel, as squeeze-and-excitation gates it."""

from backends.emit import bind, function, load, loop, segments, splat, store
from backends.workload import Lowering

PRIORITY = 0


def serves(workload, target) -> bool:
    """[N, C, H, W] times [N, C, 1, 1]."""
    image, gate = (tensor.shape for _, tensor in workload.tensors) if len(workload.tensors) == 2 else ((), ())
    return len(image) == 4 and gate == (*image[:2], 1, 1)


def options(workload, target) -> list[dict]:
    """There is one way."""
    return [{}]


def lower(workload, target, option) -> Lowering:
    """The kernel of (image, gate, out)."""
    image, gate = (tensor for _, tensor in workload.tensors)
    pixels = image.shape[2] * image.shape[3]

    def body(x, factors, out):
        with loop(gate.size, target.threads > 1) as channel:
            factor = bind(load(factors, channel))
            for part in segments(pixels, target.lanes, 1):
                with loop(part.count) as tile:
                    at = channel * pixels + part.start + tile * part.lanes
                    store(out, load(x, at, part.lanes) * splat(factor, part.lanes), at, part.lanes)
    return Lowering(function([image, gate, workload.out], body))
