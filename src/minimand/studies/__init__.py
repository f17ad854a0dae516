"""Experiments: one published table a file, and comparisons of anybody's choice."""

from .compare import Comparison as Comparison
from .compare import compare as compare
from .search import search as search
from .search_result import Search as Search
