"""Experiments: comparisons over seeds, searches for algorithms, and the machinery of studies."""

from .compare import compare as compare
from .comparison import Comparison as Comparison, ComparisonEntry as ComparisonEntry
from .decided import DecisiveResult as DecisiveResult
from .decisive import Claim as Claim, DecisiveStudy as DecisiveStudy, Trials as Trials
from .held_out import judged_part as judged_part
from .panels import draw_sweep as draw_sweep, rows as rows, sweep as sweep, values_by as values_by
from .running import read_study as read_study, run_study as run_study
from .search import search as search
from .search_result import SearchResult as SearchResult
from .study import (
    Bench as Bench,
    Cell as Cell,
    Column as Column,
    FiguresByCaption as FiguresByCaption,
    Measurements as Measurements,
    Scale as Scale,
    Study as Study,
    Values as Values,
    list_studies as list_studies,
)
from .study_result import StudyResult as StudyResult
