"""The mean over all pixels of each channel, to one pixel."""

from tests.cases._draw import floats, image

TOLERANCE = 1e-4


def inputs(rng):
    return {"self": floats(rng, image(rng))}, {"output_size": [1, 1]}


def expected(self, output_size):
    return self.astype(float).mean((2, 3), keepdims=True).astype("float32")
