"""A tensor that becomes uint8: what training lets pass is what the deployed form gives."""

import torch

from spaces.affine_range import AffineRange
from spaces.ops import quantize


def seen(low: float, high: float) -> AffineRange:
    found = AffineRange("x").eval()
    found.low.fill_(low)
    found.high.fill_(high)
    return found


def test_what_passes_is_what_the_bytes_stand_for_halves_included():
    found = seen(-1.0, 254.0)
    x = torch.cat([torch.arange(-6.0, 300.0, 0.5), torch.randn(1000) * 100])
    wanted = found.wanted()
    whole = quantize.reference(x, wanted.scale, wanted.zero_point).to(torch.float32)
    assert torch.equal(found(x), (whole - wanted.zero_point) * wanted.scale)


def test_the_gradient_passes_inside_the_range_and_stops_outside():
    x = torch.tensor([-2.0, -1.0, 0.3, 0.999, 1.2], requires_grad=True)
    seen(-1.0, 1.0)(x).backward(torch.arange(1.0, 6.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 0]
