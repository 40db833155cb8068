"""Ways to train: one file adds one recipe."""
