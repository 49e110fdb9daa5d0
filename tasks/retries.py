"""When trying again can help: a passing storage fault. A corrupt image or a bad setting fails at once."""

import errno
from typing import Any

from cxr.core.errors import StorageError

DELAYS = [2, 10, 30]  # seconds
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EBUSY}


def passing(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether the failed state was caused by a storage fault that may pass."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, StorageError):
        return error.transient
    return isinstance(error, OSError) and error.errno in _PASSING


POLICY: dict[str, Any] = {
    "retries": len(DELAYS),
    "retry_delay_seconds": DELAYS,
    "retry_condition_fn": passing,
}
