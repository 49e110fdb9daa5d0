"""The selected model in other runtimes: what travels with it, and whether it decides the same there."""
