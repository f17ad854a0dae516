"""Data by name, as batches ready for a model."""

from .batches import Batch as Batch, call as call, each as each, tensor_of as tensor_of
from .conversion import as_data as as_data
from .data import Data as Data, PreparedSamples as PreparedSamples, as_prepared as as_prepared, hold_out as hold_out
from .registry import DataSet as DataSet, default_data as default_data, list_data as list_data, load_data as load_data
from .samples import (
    Arrays as Arrays,
    Items as Items,
    Loader as Loader,
    NoSamples as NoSamples,
    Samples as Samples,
    Stream as Stream,
)
