"""Compression methods: one file adds one method."""
