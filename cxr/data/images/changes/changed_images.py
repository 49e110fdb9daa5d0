"""Images that are changed when they are read, so that no changed copy of a set is in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cxr.data.images.decoding.rejection import Pixels
from cxr.storage.arrays import Stored

Array = np.ndarray[Any, Any]
Change = Callable[[Pixels, str], Pixels]
"""Makes the image, uint8 (side, side), of the image and the digest of its pixels."""


class ChangedImages:
    """Images, each changed when it is read.

    Attributes:
        shape: Number of images, then the shape of one.
    """

    def __init__(
        self,
        pixels: Stored,
        keys: Sequence[str],
        change: Change,
    ):
        """Describe the images; none is read yet.

        Args:
            pixels: uint8 (n, side, side).
            keys: The digest of the pixels of each, n.
            change: What to do to each.
        """
        self.shape = pixels.shape
        self._pixels = pixels
        self._keys = keys
        self._change = change

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, positions: Array) -> Array:
        """Return the changed images at these positions, uint8 (k, side, side)."""
        changed = [
            self._change(image, self._keys[position])
            for image, position in zip(self._pixels[positions], positions, strict=True)
        ]
        return np.stack(changed)
