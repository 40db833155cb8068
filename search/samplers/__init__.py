"""Samplers: one file each, `make(seed)` gives the Optuna sampler."""
