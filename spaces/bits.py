"""Codes of few bits as they are stored: row by row, each row padded to whole bytes.

A tensor [O, ...] has O rows of n = product(...) codes; one of a single dimension is one row. Code i of a row takes
bits [i * b, (i + 1) * b) of the row, counted from the lowest bit of its first byte; a code's lowest bit comes first.
"""

from math import prod

import torch


def row_of(shape: list[int]) -> tuple[int, int]:
    """Rows, and codes of a row."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


def pack_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (whole numbers of any type, 0 to 2^bits - 1) as uint8 [rows, ceil(n * bits / 8)]."""
    rows, count = row_of(list(codes.shape))
    stream = (codes.to(torch.uint8).reshape(rows, count, 1) >> torch.arange(bits, dtype=torch.uint8)) & 1
    padded = torch.nn.functional.pad(stream.flatten(1), (0, -count * bits % 8)).view(rows, -1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(2, dtype=torch.uint8)


def codes_of(packed: torch.Tensor, bits: int, shape: list[int]) -> torch.Tensor:
    """The inverse: uint8 of `shape`. ValueError if `packed` does not hold them."""
    rows, count = row_of(shape)
    wanted = (rows, -(-count * bits // 8))
    if packed.dtype != torch.uint8 or tuple(packed.shape) != wanted:
        raise ValueError(f"packed is {packed.dtype} {list(packed.shape)}; {list(shape)} codes of {bits} bits are"
                         f" stored as uint8 {list(wanted)}")
    stream = (packed.unsqueeze(2) >> torch.arange(8, dtype=torch.uint8)) & 1
    codes = stream.flatten(1)[:, : count * bits].reshape(rows, count, bits) << torch.arange(bits, dtype=torch.uint8)
    return codes.sum(2, dtype=torch.uint8).reshape(shape)


def check_bits(bits: int, low: int, high: int) -> None:
    """ValueError unless low <= bits <= high."""
    if not low <= bits <= high:
        raise ValueError(f"bits is {bits}; it can be {low} to {high}")
