"""Detectron2's LVIS evaluator, for a package lvis that is older than today's NumPy."""

from collections import OrderedDict

import numpy as np
from detectron2.evaluation import LVISEvaluator


class PortedLVISEvaluator(LVISEvaluator):
    """Detectron2's evaluator, which gives lvis 0.5.3 the name that NumPy 1.24 removed."""

    def evaluate(self) -> OrderedDict | None:
        """Score the predictions of all processes.

        Returns:
            Detectron2's metrics for "bbox" and "segm" on the main process.
        """
        vars(np)["float"] = float
        try:
            return super().evaluate()
        finally:
            del vars(np)["float"]
