"""The figures of the exploration, drawn from the numbers that its other modules measure."""
