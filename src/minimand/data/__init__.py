"""Data by name, as batches ready for a model."""

from .conversion import as_data as as_data
from .data import Data as Data
from .holding_out import hold_out as hold_out
from .info import DataSet as DataSet
from .registry import data_references as data_references
from .registry import default_data as default_data
from .registry import list_data as list_data
from .registry import load_data as load_data
from .samples import Arrays as Arrays
from .samples import Items as Items
from .samples import Loader as Loader
from .samples import Samples as Samples
