"""The trained models as files that run without Detectron2 and this package."""

from .formats import METADATA_NAME, SAVERS, difference, run_file, save_onnx, save_pt2
from .modules import ExportableModel, exportable
from .program import export_program

__all__ = [
    "METADATA_NAME",
    "SAVERS",
    "ExportableModel",
    "difference",
    "export_program",
    "exportable",
    "run_file",
    "save_onnx",
    "save_pt2",
]
