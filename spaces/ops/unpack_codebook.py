"""Weights that share the vectors of a codebook, as they are stored: a code a sub-vector, and the table it points into.

A layer's weights [outputs, inputs, kernel...] are cut along the inputs into segments of `length` numbers, the last of which may be
shorter. Each (output, segment, kernel position), row-major, has one code:

    weight[o, s * length + j, p] = table[s, code[o, s, p], j]          (table[0, ...] where there is one table for all)

With length 1 it is a scalar codebook (Han et al., Deep compression, 2016), else product quantisation (Jegou et al., 2011). A shape
of one number is a list of weights.

codes uint8 [ceil(count * bits / 8)]: `bits` (1 to 8) a code, lowest bit first; table float32 [1 or segments, entries, length]
with at most 2^bits entries (every code is below `entries`). Gives float32 weights of `shape`.
"""

import math

import torch


def segments_of(shape: list[int], length: int) -> tuple[int, int, int]:
    """Outputs, segments and kernel positions of weights of that shape: one code each."""
    inputs = shape[1] if len(shape) > 1 else 1
    return shape[0], -(-inputs // length), math.prod(shape[2:])


def decode(codes: torch.Tensor, table: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """The weights that integer codes [outputs, segments, positions] stand for; differentiable in the table."""
    tables, entries, length = table.shape
    vectors = table.reshape(-1, length)[rows(codes, tables, entries)].permute(0, 1, 3, 2).flatten(1, 2)
    inputs = shape[1] if len(shape) > 1 else 1
    return vectors[:, :inputs].reshape(shape).contiguous()


def rows(codes: torch.Tensor, tables: int, entries: int) -> torch.Tensor:
    """Codes [outputs, segments, positions] as rows of all tables together."""
    return codes + torch.arange(codes.shape[1]).view(1, -1, 1) * (entries if tables > 1 else 0)


def reference(codes: torch.Tensor, table: torch.Tensor, bits: int, shape: list[int]) -> torch.Tensor:
    _check(codes, table, bits, shape)
    stream = ((codes.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()
    sizes = segments_of(shape, table.shape[2])
    each = stream[: math.prod(sizes) * bits].view(-1, bits).to(torch.int64)
    return decode((each << torch.arange(bits)).sum(1).view(sizes), table, shape)


def _check(codes: torch.Tensor, table: torch.Tensor, bits: int, shape: list[int]) -> None:
    """ValueError names what does not fit together."""
    if not 1 <= bits <= 8 or table.dim() != 3 or not 1 <= table.shape[1] <= 2**bits:
        raise ValueError(f"unpack_codebook: a table {list(table.shape)} for codes of {bits} bits; it must be [tables, entries, length]"
                         " with at most 2^bits entries, and bits 1 to 8")
    outputs, segments, positions = segments_of(shape, table.shape[2])
    if table.shape[0] not in (1, segments):
        raise ValueError(f"unpack_codebook: {table.shape[0]} tables; weights {shape} take 1 or {segments}")
    wanted = -(-outputs * segments * positions * bits // 8)
    if codes.dtype != torch.uint8 or table.dtype != torch.float32 or codes.shape != (wanted,):
        raise ValueError(f"unpack_codebook: codes {codes.dtype} {list(codes.shape)} and a table of {table.dtype}; weights {shape}"
                         f" take uint8 [{wanted}] and float32")


unpack_codebook = torch.library.custom_op("netwright::unpack_codebook", mutates_args=())(reference)


@unpack_codebook.register_fake
def _shape(codes, table, bits, shape):
    return table.new_empty(shape)
