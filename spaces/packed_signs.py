"""Signs as bits: +1 is a set bit, -1 a clear one; eight channels a byte, the lowest bit first, zeros past the last."""

import torch


def pack_signs(positive: torch.Tensor) -> torch.Tensor:
    """bool [N, C, ...] as uint8 [N, ceil(C/8), ...]."""
    missing = -positive.shape[1] % 8
    whole = torch.cat([positive, positive.new_zeros([len(positive), missing, *positive.shape[2:]])], 1)
    places = torch.arange(8, dtype=torch.uint8).view(8, *[1] * (positive.dim() - 2))
    return (whole.unflatten(1, [-1, 8]).to(torch.uint8) << places).sum(2).to(torch.uint8)


def signs(bits: torch.Tensor, channels: int) -> torch.Tensor:
    """uint8 [N, ceil(C/8), ...] as float32 [N, C, ...] of +1 and -1."""
    places = torch.arange(8, dtype=torch.uint8).view(8, *[1] * (bits.dim() - 2))
    single = (bits.unsqueeze(2) >> places) & 1
    return 2.0 * single.flatten(1, 2)[:, :channels].to(torch.float32) - 1.0


def check_bits(x: torch.Tensor, weight: torch.Tensor, channels: int, groups: int) -> None:
    """ValueError unless x [N, ceil(channels/8), ...] and weight [O, ceil(channels/groups/8), ...] are packed signs."""
    if x.dtype != torch.uint8 or weight.dtype != torch.uint8:
        raise ValueError(f"x is {x.dtype} and weight {weight.dtype}; packed signs are torch.uint8")
    if channels % groups or groups > 1 and channels // groups % 8:
        raise ValueError(f"{channels} channels in {groups} groups: each must have a multiple of 8, packed in whole bytes")
    wanted = -(-channels // 8), -(-channels // groups // 8)
    if (x.shape[1], weight.shape[1]) != wanted:
        raise ValueError(f"x has {x.shape[1]} bytes of channels and weight {weight.shape[1]}; {channels} channels in"
                         f" {groups} groups are {wanted[0]} and {wanted[1]}")
