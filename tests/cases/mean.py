"""The mean over all pixels of each channel."""

from tests.cases._draw import floats, image, one_of

TOLERANCE = 1e-4


def inputs(rng):
    return {"self": floats(rng, image(rng))}, {"dim": one_of(rng, [2, 3], [-1, -2]), "keepdim": bool(rng.integers(2))}


def expected(self, dim, keepdim):
    return self.astype(float).mean(tuple(dim), keepdims=keepdim).astype("float32")
