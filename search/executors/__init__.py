"""Executors: ways to run the jobs of a controller."""
