"""Texts and pages for people: explanations, figures, reports, bibliographies."""

from .explain import Explanation as Explanation, explain as explain
from .page import write_report as write_report
