"""Data by name, as batches ready for a model."""

from .conversion import as_data as as_data
from .data import Data as Data
from .holding_out import hold_out as hold_out
from .info import DataSet as DataSet
from .registry import (
    data_references as data_references,
    default_data as default_data,
    list_data as list_data,
    load_data as load_data,
)
from .samples import Arrays as Arrays, Items as Items, Loader as Loader, Samples as Samples
