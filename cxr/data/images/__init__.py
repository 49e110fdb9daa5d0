"""From bytes to pixels: decoding, checks of content, hashes, augmentation, the pixel cache."""
