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
    """Images of a larger set, each changed when it is read.

    Attributes:
        shape: Number of images, then the shape of one.
    """

    def __init__(
        self,
        pixels: Stored,
        keys: Sequence[str],
        change: Change,
        chosen: Array | None = None,
    ):
        """Describe the images; none is read yet.

        Args:
            pixels: All images of the set, uint8 (n, side, side).
            keys: The digest of the pixels of each, n.
            change: What to do to each.
            chosen: Positions in the set of the images to show, int (k,); all if not given.
        """
        self._pixels = pixels
        self._keys = keys
        self._change = change
        self._chosen = np.arange(len(keys)) if chosen is None else chosen
        self.shape = (len(self._chosen), *pixels.shape[1:])

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, positions: Array) -> Array:
        """Return the changed images at these positions among the chosen, uint8 (m, side, side)."""
        in_set = self._chosen[positions]
        changed = [
            self._change(image, self._keys[position])
            for image, position in zip(self._pixels[in_set], in_set, strict=True)
        ]
        return np.stack(changed)
