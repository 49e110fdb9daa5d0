"""When a task is tried again: after a storage fault that may pass.

An unreadable image or a wrong setting fails at once.
"""

import errno
from typing import Any

from cxr.core.errors import StorageError

DELAYS = [2, 10, 30]  # seconds
_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EBUSY}


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether the failed state was caused by a storage fault that may pass."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, StorageError):
        return error.transient
    return isinstance(error, OSError) and error.errno in _TRANSIENT


POLICY: dict[str, Any] = {
    "retries": len(DELAYS),
    "retry_delay_seconds": DELAYS,
    "retry_condition_fn": is_transient,
}
