"""Watching a model at work: aggregates of its predictions, tests of drift, a page."""

from cxr.serving.monitoring.report import MonitorReport, read_monitor

__all__ = ["MonitorReport", "read_monitor"]
