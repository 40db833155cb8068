"""Kernels: one folder an op, one file an algorithm; `backends.lowering` walks them."""
