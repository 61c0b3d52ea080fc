"""Export trained models to files that run without Detectron2 and this package."""

from .formats import METADATA_NAME, SAVERS, measure_difference, run_file, save_onnx, save_pt2
from .modules import ExportableModel
from .program import export_program

__all__ = [
    "METADATA_NAME",
    "SAVERS",
    "ExportableModel",
    "export_program",
    "measure_difference",
    "run_file",
    "save_onnx",
    "save_pt2",
]
