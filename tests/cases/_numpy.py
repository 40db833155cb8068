"""What the ops' definitions share, in NumPy: windows, sums of products, requantised sums, streams of bits."""

import math

import numpy as np


def convolved(x: np.ndarray, weight: np.ndarray, stride, padding, dilation, groups, fill: int = 0) -> np.ndarray:
    """Sums of products in float64, in which whole numbers to 2^53 are exact, pixel of the kernel by pixel: [N, O, H, W]."""
    x = np.pad(x.astype(float), [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2], constant_values=fill)
    (batch, _, *sides), (outputs, inputs, *kernel) = x.shape, weight.shape
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(sides, kernel, stride, dilation)]
    apart, out = weight.astype(float).reshape(groups, outputs // groups, inputs, *kernel), 0.0
    for r, s in np.ndindex(*kernel):
        rows, columns = (slice(t * d, t * d + n * step, step) for t, d, n, step in zip((r, s), dilation, size, stride))
        part = x[:, :, rows, columns].reshape(batch, groups, inputs, math.prod(size))
        out = out + apart[..., r, s] @ part
    return out.reshape(batch, outputs, *size)


def per_channel(values: np.ndarray, dims: int) -> np.ndarray:
    """One number a channel [O], beside results [N, O, ...] of so many dimensions."""
    return values.reshape(-1, *[1] * (dims - 2))


def requantised(sums: np.ndarray, bias, scale, low: float, high: float, out_zero_point: int | None = None) -> np.ndarray:
    """The epilogue of integer layers, by one product in float32: to uint8, or to float32."""
    bias, scale = (per_channel(values, sums.ndim) for values in (bias, scale))
    real = (sums.astype(np.int64) + bias).astype(np.float32) * scale
    if out_zero_point is None:
        return np.clip(real, np.float32(low), np.float32(high))
    return nearest(real, out_zero_point, low, high)


def nearest(real: np.ndarray, zero_point: int, low: float = 0, high: float = 255) -> np.ndarray:
    """The nearest whole numbers, halves to the even one, plus the zero point, as uint8 within the bounds."""
    return np.clip(np.rint(real) + zero_point, low, high).astype(np.uint8)


def windows(x: np.ndarray, kernel_size, stride) -> np.ndarray:
    """The windows of images that lie inside: [N, C, H, W, kernel y, kernel x]."""
    found = np.lib.stride_tricks.sliding_window_view(x, kernel_size, (2, 3))
    return found[:, :, ::stride[0], ::stride[1]]


def padded_windows(x: np.ndarray, kernel_size, stride, padding, ceil_mode: bool, fill: float) -> np.ndarray:
    """The windows of images with so much around them; in ceil mode also one that begins in the image or its left padding
    and ends past it."""
    sides, outs = [], []
    for size, k, s, p in zip(x.shape[2:], kernel_size, stride, padding):
        steps = -(-(size + 2 * p - k) // s) if ceil_mode else (size + 2 * p - k) // s
        steps -= bool(ceil_mode and steps * s >= size + p)
        sides.append((p, max(p, steps * s + k - size - p)))
        outs.append(steps + 1)
    whole = np.pad(x, [(0, 0), (0, 0), *sides], constant_values=fill)
    return windows(whole, kernel_size, stride)[:, :, :outs[0], :outs[1]]


def codes_in(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes of each row of bytes, lowest bit first: int64 [rows, count]."""
    stream = np.unpackbits(packed, axis=-1, bitorder="little", count=count * bits)
    return (stream.reshape(*packed.shape[:-1], count, bits).astype(np.int64) << np.arange(bits)).sum(-1)


def rows_of(shape) -> tuple[int, int]:
    """Rows of weights, an output each, and numbers of a row; a list is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])
