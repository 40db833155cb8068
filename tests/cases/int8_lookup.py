"""A table of 256 bytes, looked up."""

from tests.cases._draw import images_or_rows, integers


def inputs(rng):
    return {"x": integers(rng, images_or_rows(rng)), "table": integers(rng, (256,))}, {}


def expected(x, table):
    return table[x]
