"""Hardened models that run on bits."""

from .export import export_onnx as export_onnx
from .file import PackedFileError as PackedFileError
from .packed import PackedModel as PackedModel, load_packed as load_packed, pack as pack
