"""Experiments: comparisons over seeds, searches for algorithms, and the machinery of studies."""

from .comparing.compare import compare as compare
from .comparing.comparison import Comparison as Comparison, ComparisonEntry as ComparisonEntry
from .deciding.decided import DecisiveResult as DecisiveResult
from .deciding.decisive import Claim as Claim, DecisiveStudy as DecisiveStudy, Trials as Trials
from .panels import draw_sweep as draw_sweep, rows as rows, sweep as sweep, values_by as values_by
from .running import read_study as read_study, run_study as run_study
from .searching.search import search as search
from .searching.search_result import SearchResult as SearchResult
from .statistics.held_out import judged_part as judged_part
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
