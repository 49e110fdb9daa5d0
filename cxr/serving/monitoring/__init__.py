"""Watching a model at work: aggregates of its predictions, tests of drift, a page."""

from cxr.serving.monitoring.labels import RealFigures, compare_labels
from cxr.serving.monitoring.page import write_page
from cxr.serving.monitoring.report import MonitorReport, read_monitor

__all__ = ["MonitorReport", "RealFigures", "compare_labels", "read_monitor", "write_page"]
