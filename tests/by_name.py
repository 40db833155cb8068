"""Blocks that their name alone says, which conformance suites build at any size: not the user's own network, of which there are many."""

from dataclasses import MISSING, fields

from spaces.gene import load, names

BLOCKS = [name for name in names("blocks") if all(field.default is not MISSING for field in fields(load("blocks", name)))]
