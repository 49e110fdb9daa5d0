"""Performance of the chosen model in parts of the test set, and whether these differ.

A subgroup changes no choice. It shows where a metric of the whole test set may not hold.
"""

from cxr.stats.subgroups.differences import SubgroupTest, compare_subgroups
from cxr.stats.subgroups.divisions import ATTRIBUTES
from cxr.stats.subgroups.measurement import TOO_FEW, Subgroup, measure_subgroups

__all__ = [
    "ATTRIBUTES",
    "TOO_FEW",
    "Subgroup",
    "SubgroupTest",
    "compare_subgroups",
    "measure_subgroups",
]
