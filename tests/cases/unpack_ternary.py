"""0 where a bit of the first plane is clear, else the second plane's sign."""

from tests.cases._draw import weight_shape
from tests.cases._numpy import codes_in, rows_of
from tests.cases.unpack_bits import bytes_of


def inputs(rng, weight=None):
    shape = list(weight_shape(rng) if weight is None else weight.shape)
    return {"active": bytes_of(rng, shape, 1), "negative": bytes_of(rng, shape, 1)}, {"shape": shape}


def expected(active, negative, shape):
    set_, minus = (codes_in(plane, 1, rows_of(shape)[1]) for plane in (active, negative))
    return (set_ * (1 - 2 * minus)).reshape(shape).astype("int8")
