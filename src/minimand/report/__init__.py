"""What a person reads: explanations, figures, pages, bibliographies."""

from .explain import Explanation as Explanation
from .explain import explain as explain
from .page import write_report as write_report
