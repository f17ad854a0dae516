"""Experiments: comparisons over seeds, searches for algorithms, and the machinery of studies."""

from .compare import Comparison as Comparison
from .compare import compare as compare
from .running import StudyResult as StudyResult
from .running import read_study as read_study
from .running import run_study as run_study
from .search import search as search
from .search_result import Search as Search
from .study import list_studies as list_studies
