"""The trained models as files that run without Detectron2 and this package."""

from .formats import (
    INPUT_NAME,
    METADATA_NAME,
    OUTPUT_NAME,
    export_program,
    save_onnx,
    save_pt2,
)
from .modules import TASKS, ExportableModel, exportable

__all__ = [
    "INPUT_NAME",
    "METADATA_NAME",
    "OUTPUT_NAME",
    "TASKS",
    "ExportableModel",
    "export_program",
    "exportable",
    "save_onnx",
    "save_pt2",
]
