"""The choice of a model, by validation alone."""

from cxr.models.selection.comparison_table import comparison_table, write_comparison
from cxr.models.selection.records import Selection, Stability, Versus
from cxr.models.selection.rule import MIN_SPECIFICITY, RULE, select_model
from cxr.models.selection.versus import AUROC_MARGIN, SIGNIFICANT

__all__ = [
    "AUROC_MARGIN",
    "MIN_SPECIFICITY",
    "RULE",
    "SIGNIFICANT",
    "Selection",
    "Stability",
    "Versus",
    "comparison_table",
    "select_model",
    "write_comparison",
]
