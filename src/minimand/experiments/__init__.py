"""Experiments: comparisons over seeds, searches for algorithms, and the machinery of studies."""

from .compare import compare as compare
from .comparison import Comparison as Comparison, ComparisonEntry as ComparisonEntry
from .running import StudyResult as StudyResult, read_study as read_study, run_study as run_study
from .search import search as search
from .search_result import SearchResult as SearchResult
from .study import list_studies as list_studies
