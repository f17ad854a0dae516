"""Texts and pages for people: explanations, figures, reports, bibliographies."""

from .citing import bibtex as bibtex
from .diagnosis import write_diagnosis as write_diagnosis
from .explain import Explanation as Explanation, certify_model as certify_model, explain as explain
from .page import Figures as Figures, write_page as write_page, write_report as write_report
from .size import (
    count_flops as count_flops,
    peak_bytes as peak_bytes,
    peak_saved_bytes as peak_saved_bytes,
    saved_bytes as saved_bytes,
)
from .summary import LayerSummary as LayerSummary, ModelSummary as ModelSummary, summary as summary
