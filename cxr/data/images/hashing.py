"""Digests of pixels: an exact one and a perceptual one."""

import hashlib

import numpy as np
from PIL import Image

from cxr.data.images.decoding.rejection import Pixels

_LOW_FREQUENCIES = 16  # in each direction: 256 bits


def pixel_sha256(
    image: Image.Image,
    pixels: Pixels | None = None,
) -> str:
    """Return the SHA-256 of mode, size and pixels: equal if a re-encoding has kept them.

    Args:
        image: Of any mode.
        pixels: Its own pixels in a contiguous array, if there is one: it saves a copy.
    """
    header = f"{image.mode} {image.width} {image.height} "
    digest = hashlib.sha256(header.encode())
    if pixels is None:
        digest.update(image.tobytes())
    else:
        digest.update(pixels.data)
    return digest.hexdigest()


def perceptual_hashes(thumbnails: Pixels) -> list[str]:
    """Return the perceptual hash of each thumbnail: 256 bits as 64 hex digits.

    A bit says whether one of the lowest 16 x 16 terms of the discrete cosine transform is above
    their median. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
    (2010), section 3.2.1.

    Args:
        thumbnails: uint8 (n, 64, 64).
    """
    from scipy.fft import dctn

    gray = thumbnails.astype(np.float64)
    terms = dctn(gray, axes=(1, 2))
    lowest = slice(_LOW_FREQUENCIES)
    low_terms = terms[:, lowest, lowest]
    low_terms = low_terms.reshape(len(thumbnails), _LOW_FREQUENCIES**2)
    medians = np.median(low_terms, axis=1, keepdims=True)
    bits = low_terms > medians
    packed = np.packbits(bits, axis=1)
    return [row.tobytes().hex() for row in packed]
