"""The convolution of bytes padded with their zero point, requantised by one product each."""

import math

from tests.cases._draw import convolution, integers, zero_point
from tests.cases._numpy import convolved, requantised
from tests.cases.int8_linear import epilogue


def inputs(rng):
    x, weight, geometry = convolution(rng)
    parameters, rest = epilogue(rng, weight[0], math.prod(weight[1:]))
    tensors = {"x": integers(rng, x), "weight": integers(rng, weight, "int8"), **parameters}
    return tensors, {**geometry, "zero_point": zero_point(rng), **rest}


def expected(x, weight, bias, scale, stride, padding, dilation, groups, zero_point, **rest):
    return requantised(convolved(x, weight, stride, padding, dilation, groups, zero_point), bias, scale, **rest)
