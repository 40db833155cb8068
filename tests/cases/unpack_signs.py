"""-1 where a bit is set, else 1; each row in whole bytes."""

from tests.cases._draw import weight_shape
from tests.cases._numpy import codes_in, rows_of
from tests.cases.unpack_bits import bytes_of


def inputs(rng, weight=None):
    shape = list(weight_shape(rng) if weight is None else weight.shape)
    return {"negative": bytes_of(rng, shape, 1)}, {"shape": shape}


def expected(negative, shape):
    return (1 - 2 * codes_in(negative, 1, rows_of(shape)[1])).reshape(shape).astype("int8")
