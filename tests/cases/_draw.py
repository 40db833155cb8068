"""Random shapes and values: odd ones, small ones, and the ends of every range."""

import math

import numpy as np

MOST_PRODUCTS = 30_000_000


def one_of(rng, *options):
    """One of the options, each as likely."""
    return options[rng.integers(len(options))]


def channels(rng) -> int:
    """1 to 200, half of them at most 40."""
    return int(one_of(rng, rng.integers(1, 41), rng.integers(1, 201), rng.integers(1, 41), one_of(rng, 16, 24, 37, 64, 128)))


def side(rng) -> int:
    """1 to 57, most of them small."""
    return int(rng.integers(1, one_of(rng, 4, 10, 21, 58)))


def image(rng) -> tuple[int, int, int, int]:
    """The shape of one or two images [N, C, H, W]."""
    return int(rng.integers(1, 3)), channels(rng), side(rng), side(rng)


def images_or_rows(rng) -> tuple[int, ...]:
    """The shape of images, or of rows [N, C]."""
    return one_of(rng, image(rng), image(rng), (int(rng.integers(1, 4)), channels(rng)))


def weight_shape(rng) -> tuple[int, ...]:
    """The shape of a dense layer's weights, a convolution's, or a list of weights; not too many."""
    few = [int(rng.integers(1, most)) for most in (10, 10, 4, 4)]
    rows = channels(rng), int(rng.integers(1, 60))
    return one_of(rng, rows, (*rows, 1, 1), tuple(few), (int(rng.integers(1, 301)),))


def floats(rng, shape, scale: float = 1.0) -> np.ndarray:
    """Normal float32 numbers; a few of them zero."""
    return np.where(rng.random(shape) < 0.95, scale * rng.standard_normal(shape), 0).astype("float32")


def integers(rng, shape, dtype: str = "uint8") -> np.ndarray:
    """The type's whole range; in one draw of four only its ends, their neighbours and zero, in one only an end."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    ends = one_of(rng, None, None, np.array([low, low + 1, 0, high - 1, high]), np.array([one_of(rng, low, high)]))
    return (rng.integers(low, high + 1, shape) if ends is None else rng.choice(ends, shape)).astype(dtype)


def zero_point(rng) -> int:
    """0 to 255, often at an end."""
    return int(one_of(rng, 0, 255, 128, rng.integers(0, 256)))


def bounds(rng) -> tuple[float, float]:
    """What no activation, a rectifier and a clamp keep of floats."""
    return one_of(rng, (-math.inf, math.inf), (0.0, math.inf), (0.0, 6.0), (-0.5, 0.5))


def step_bounds(rng, zero: int = 0) -> tuple[float, float]:
    """The same of uint8 steps."""
    return one_of(rng, (0.0, 255.0), (float(zero), 255.0), (3.0, 251.0), (float(zero), float(min(255, zero + 60))))


def convolution(rng, channels_a_group: int = 1) -> tuple[tuple, tuple, dict]:
    """The shapes of images and weights, and the geometry of a convolution that exists: pointwise, 3x3, any kernel to 7x7,
    grouped or depthwise; groups of a multiple of `channels_a_group`."""
    style = one_of(rng, "pointwise", "3x3", "any", "grouped", "depthwise")
    kernel = {"pointwise": [1, 1], "3x3": [3, 3]}.get(style) or [int(rng.integers(1, 8)) for _ in "yx"]
    inputs, outputs, groups = channels(rng), channels(rng), 1
    if style in ("grouped", "depthwise"):
        groups = int(rng.integers(2, 4)) if style == "grouped" or channels_a_group > 1 else inputs
        inputs = groups * channels_a_group * max(1, inputs // groups // channels_a_group)
        outputs = inputs if style == "depthwise" else groups * max(1, outputs // groups)
    dilation = [int(rng.integers(1, 3)) for _ in "yx"] if style in ("any", "grouped") else [1, 1]
    stride = [int(rng.integers(1, 4)) for _ in "yx"] if rng.random() < 0.5 else [1, 1]
    most = 1 if style == "pointwise" and rng.random() < 0.7 else 2
    padding = [int(rng.integers(0, k // 2 + most)) for k in kernel]
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding)]
    size = [max(side(rng), n) for n in least]
    weight = (outputs, inputs // groups, *kernel)
    while math.prod(size) * math.prod(weight) > MOST_PRODUCTS and size != least:
        size = [max(n // 2, few) for n, few in zip(size, least)]
    x = (int(rng.integers(1, 3)), inputs, *size)
    return x, weight, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def dense(rng) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of a dense layer's inputs and weights."""
    inputs = int(one_of(rng, rng.integers(1, 41), rng.integers(1, 301), one_of(rng, 64, 512, 4096)))
    return (int(rng.integers(1, 4)), inputs), (channels(rng), inputs)


def window(rng, shape, padded: bool) -> dict[str, list[int]]:
    """The kernel, stride and padding of a pool over images."""
    kernel = [int(rng.integers(1, min(size, one_of(rng, 3, 7, 57)) + 1)) for size in shape[2:]]
    padding = [int(rng.integers(0, k // 2 + 1)) for k in kernel] if padded else [0, 0]
    return {"kernel_size": kernel, "stride": [int(rng.integers(1, 4)) for _ in "yx"], "padding": padding}


def unary(rng, shape: tuple[int, ...] | None = None) -> tuple[dict, dict]:
    """A call of a function of one float32 tensor."""
    return {"self": floats(rng, shape or images_or_rows(rng), 4.0)}, {}


def binary(rng, shape: tuple[int, ...] | None = None) -> tuple[dict, dict]:
    """A call of a function of two float32 tensors: of one shape, of one value a channel, or of a number."""
    whole = shape or images_or_rows(rng)
    if rng.random() < 0.2:
        return {"self": floats(rng, whole)}, {"other": one_of(rng, 3.0, -2.5, 0.0)}
    gate = (*whole[:2], 1, 1) if shape is None and len(whole) == 4 and rng.random() < 0.3 else whole
    return {"self": floats(rng, whole), "other": floats(rng, gate)}, {}


def float_scale(rng, usual: float) -> float:
    """A scale that float32 holds, within a factor of eight of the usual one."""
    return float(np.float32(usual * 2.0 ** rng.uniform(-3, 3)))
