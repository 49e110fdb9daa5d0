"""Why an image cannot be used."""

from typing import Any

import numpy as np

Pixels = np.ndarray[Any, Any]
PNG_START = 8  # bytes of its signature
EXPORT_HINT = "export 8 bits with the display window applied"


class Rejected(Exception):  # noqa: N818 - a verdict on a file, no error of the program
    """An image that cannot be used: `reason` out of the closed list, and a detail for a person."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
