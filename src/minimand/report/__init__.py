"""What a person reads: explanations, figures and pages."""

from .explain import Explanation as Explanation
from .explain import explain as explain
from .page import write_report as write_report
from .reported import fit as fit
