"""Building blocks: one file adds one block."""
