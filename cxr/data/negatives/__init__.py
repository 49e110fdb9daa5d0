"""Negatives of films: found by what the films of train look like, then rejected, inverted or asked about."""
