"""clamp(conv(x * gate, weight) + bias, low, high) of one image by 1x1 kernels; the gate is called `weight.gate`, since kernels
multiply the weights by it."""

from tests.cases import conv2d
from tests.cases._draw import bounds, channels, floats, one_of, side

TOLERANCE = 1e-4


def inputs(rng):
    inputs, outputs = channels(rng), channels(rng)
    stride, padding = one_of(rng, ([1, 1], [0, 0]), ([1, 1], [0, 0]), ([2, 1], [1, 0]))
    low, high = bounds(rng)
    tensors = {"x": floats(rng, (1, inputs, side(rng), side(rng))), "weight": floats(rng, (outputs, inputs, 1, 1)),
               "weight.gate": floats(rng, (1, inputs, 1, 1)), "bias": floats(rng, outputs)}
    return tensors, {"stride": stride, "padding": padding, "dilation": [1, 1], "groups": 1, "low": low, "high": high}


def expected(x, weight, bias, **rest):
    gate = rest.pop("weight.gate")
    return conv2d.expected(x.astype(float) * gate, weight, bias, **rest)
