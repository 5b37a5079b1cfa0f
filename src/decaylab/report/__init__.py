"""Notebooks, figures and the static site. Nothing here trains or judges."""

from decaylab.report.load import Report, open_report

__all__ = ["Report", "open_report"]
