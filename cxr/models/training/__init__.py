"""One architecture trained in one process."""
