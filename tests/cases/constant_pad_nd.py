"""Images between borders of one value, which a call may leave out: zero."""

import numpy as np

from tests.cases._draw import floats, image, integers, one_of, zero_point


def inputs(rng):
    shape, whole = image(rng), bool(rng.integers(2))
    pad = [int(n) for most in (5, 5, one_of(rng, 20, 40)) for n in rng.integers(0, one_of(rng, 1, most), 2)]
    value = float(zero_point(rng)) if whole else float(np.float32(rng.standard_normal()))
    return {"self": integers(rng, shape) if whole else floats(rng, shape)}, {
        "pad": one_of(rng, pad, pad, pad + [0, 0], pad[:4], pad[:2]), **one_of(rng, {"value": value}, {"value": value}, {})}


def expected(self, pad, value=0):
    sides = [*zip(pad[::2], pad[1::2]), *[(0, 0)] * 4][3::-1]
    return np.pad(self, sides, constant_values=np.array(value).astype(self.dtype))
