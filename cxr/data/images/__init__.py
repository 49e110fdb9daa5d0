"""From bytes to pixels: formats, decoding, bit depth, checks of content, hashes, the pixel cache."""
