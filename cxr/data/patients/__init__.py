"""Which patient an image shows: read from the file name or from a table."""
