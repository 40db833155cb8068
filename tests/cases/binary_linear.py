"""clamp(scale * sums + bias, low, high) of sums of products of signs."""

import numpy as np

from tests.cases._draw import bounds, dense, floats

TOLERANCE = 1e-4


def inputs(rng):
    x, weight = dense(rng)
    low, high = bounds(rng)
    scale, bias = (floats(rng, weight[0]) for _ in range(2))
    tensors = {"x": packed(rng, x), "weight": packed(rng, weight), "scale": scale, "bias": bias}
    return tensors, {"channels": x[1], "low": low, "high": high}


def expected(x, weight, scale, bias, channels, low, high):
    sums = signs(x, channels) @ signs(weight, channels).T
    return np.clip(sums * scale.astype(float) + bias, low, high).astype("float32")


def packed(rng, shape) -> np.ndarray:
    """Random signs [N, C, ...], eight channels a byte, those past the last zero; some draws have one sign alone."""
    positive = rng.random(shape) < rng.choice([0.5, 0.5, 0.05, 1.0])
    return np.packbits(positive, axis=1, bitorder="little")


def signs(bits: np.ndarray, channels: int) -> np.ndarray:
    """+1.0 and -1.0 of packed signs."""
    return 2.0 * np.unpackbits(bits, axis=1, count=channels, bitorder="little") - 1.0
