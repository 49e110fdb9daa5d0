"""Negatives of films: found by what the films of train look like; reported, rejected or inverted."""
