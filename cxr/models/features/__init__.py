"""Frozen features: computed once, kept by content."""
