"""Packed signs: where taps leave the image, and what the roofline counts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.binary import Kinds
from backends.roofline import flops
from backends.window import Window
from backends.workload import Tensor, Workload


@given(size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 4),
       dilation=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_positions_of_one_kind_read_the_same_taps(size, kernel, stride, padding, dilation):
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        return
    window = Window(1, 8, 8, *((side, side) for side in (size, kernel, stride, padding, dilation, out)), 1)
    kinds, inside = Kinds.of(window, 0), {}
    for at in range(out):
        taps = tuple(tap for tap in range(kernel) if 0 <= at * stride + tap * dilation - padding < size)
        assert inside.setdefault(int(kinds.kind(at)), taps) == taps
    assert sorted(inside) == list(range(kinds.count))
    for kind, taps in inside.items():
        first = int(kinds.position(kind))
        assert taps == tuple(tap for tap in range(kernel) if 0 <= first * stride + tap * dilation - padding < size)


def test_the_roofline_counts_signs_not_bytes():
    bits, outputs = Tensor((1, 15, 9, 9), "uint8"), Tensor((20,), "float32")
    arguments = (("channels", 120), ("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", 5))
    workload = Workload("binary_conv2d", (("x", bits), ("weight", Tensor((20, 3, 3, 3), "uint8")), ("scale", outputs), ("bias", outputs)),
                        arguments, Tensor((1, 20, 9, 9), "float32"))
    assert flops(workload) == 2 * 81 * 20 * 24 * 9
