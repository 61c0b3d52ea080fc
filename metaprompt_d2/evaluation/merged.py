"""Several evaluators under one name."""

from collections import OrderedDict

from detectron2.evaluation import DatasetEvaluators

from ..utils.errors import InputError

__all__ = ["MergedEvaluators"]


class MergedEvaluators(DatasetEvaluators):
    """Evaluators whose results share a task, joined figure by figure.

    Detectron2's `DatasetEvaluators` refuses two evaluators that both report, say, "sem_seg", as
    the official Cityscapes scorer and `SemSegEvaluator` do.
    """

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """As in `DatasetEvaluators`; empties `outputs`.

        `inference_on_dataset` would hold them while the next images are predicted, and those of
        a photograph take many GB.
        """
        super().process(inputs, outputs)
        outputs.clear()

    def evaluate(self) -> OrderedDict | None:
        """
        Returns:
            {task: {figure: value}} on the main process, None elsewhere.

        Raises:
            InputError: two evaluators that report the same figure of the same task.
        """
        merged: OrderedDict[str, dict] = OrderedDict()
        for evaluator in self._evaluators:
            for task, figures in (evaluator.evaluate() or {}).items():
                known = merged.setdefault(task, {})
                twice = sorted(known.keys() & figures.keys())
                if twice:
                    raise InputError(f"two evaluators report {twice} of {task!r}")
                known.update(figures)
        return merged or None
