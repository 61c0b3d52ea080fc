"""Several evaluators that report the same task."""

from collections import OrderedDict
from collections.abc import Sequence

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..utils.errors import InputError


class MergedEvaluators(DatasetEvaluators):
    """Run several evaluators and merge their metrics by task.

    Detectron2's `DatasetEvaluators` refuses two evaluators that both report, say, "sem_seg", as
    the official Cityscapes scorer and `SemSegEvaluator` do.
    """

    def __init__(self, evaluators: Sequence[DatasetEvaluator]):
        super().__init__(evaluators)
        self.evaluators = evaluators

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Pass a batch to every evaluator, then empty `outputs`.

        `inference_on_dataset` keeps the list until the next batch is predicted, and the outputs of
        one photograph take many GB. `EVALUATORS_REGISTRY` tells evaluators not to rely on it.
        """
        super().process(inputs, outputs)
        outputs.clear()

    def evaluate(self) -> OrderedDict | None:
        """Return {task: {metric: value}} on the main process, None on others.

        Raises:
            InputError: Two evaluators report the same metric of the same task.
        """
        merged: OrderedDict[str, dict] = OrderedDict()
        for evaluator in self.evaluators:
            for task, metrics in (evaluator.evaluate() or {}).items():
                known = merged.setdefault(task, {})
                twice = sorted(known.keys() & metrics.keys())
                if twice:
                    raise InputError(f"two evaluators report {twice} of {task!r}")
                known.update(metrics)
        return merged or None
