"""Draw whole patients from a large manifest, so that slow measurements end in time."""

from cxr.data.splits import Array as Positions
from cxr.data.splits import sample_patients

__all__ = ["Positions", "sample_patients"]
