"""Digests of pixels: exact ones and perceptual ones."""

import hashlib

import numpy as np
from PIL import Image

from cxr.data.images.decoding.rejection import Pixels


def pixel_sha256(image: Image.Image, pixels: Pixels | None = None) -> str:
    """Return the SHA-256 of mode, size and pixels: equal where a re-encoding kept them.

    `pixels` are the image's own in an array without gaps, where there is one.
    """
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes() if pixels is None else pixels.data)
    return digest.hexdigest()


def perceptual_hashes(thumbnails: Pixels) -> list[str]:
    """Return the 256-bit hash of each 64x64 thumbnail, 64 hex digits: the lowest 16x16 DCT terms over their median.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1.
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float64), axes=(1, 2))[:, :16, :16].reshape(
        len(thumbnails), 256
    )
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return [row.tobytes().hex() for row in bits]
