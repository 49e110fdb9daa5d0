"""Rejection of a file: why an image cannot be used, in a word for tables and a text for people."""

from typing import Any

import numpy as np

Pixels = np.ndarray[Any, Any]
EXPORT_HINT = "export 8 bits with the display window applied"


class Rejected(Exception):  # noqa: N818 - a verdict on a file, not an error of the program
    """An image that cannot be used.

    Attributes:
        reason: One of REJECT_REASONS (cxr.data.manifest.records).
        detail: What was found and what to do about it.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
