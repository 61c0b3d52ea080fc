"""`MergedEvaluators`: metrics of one task from several evaluators."""

import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset

from metaprompt_d2.evaluation import MergedEvaluators


class Fixed(DatasetEvaluator):
    """Reports what it was given and remembers what it was asked."""

    def __init__(self, result: dict | None):
        self.result = result
        self.calls: list = []

    def reset(self) -> None:
        self.calls.append("reset")

    def process(self, inputs: list, outputs: list) -> None:
        self.calls.append((list(inputs), list(outputs)))

    def evaluate(self) -> dict | None:
        return self.result


def test_metrics_of_one_task_are_joined() -> None:
    evaluators = [
        Fixed({"sem_seg": {"IoU": 1.0}}),
        Fixed({"sem_seg": {"mIoU": 2.0}, "depth": {"rmse": 3.0}}),
        Fixed({"depth": {"d1": 4.0}}),
    ]
    assert MergedEvaluators(evaluators).evaluate() == {
        "sem_seg": {"IoU": 1.0, "mIoU": 2.0},
        "depth": {"rmse": 3.0, "d1": 4.0},
    }


def test_the_order_of_evaluators_is_the_order_of_metrics() -> None:
    result = MergedEvaluators([Fixed({"b": {"z": 1}}), Fixed({"a": {"y": 2}})]).evaluate()
    assert isinstance(result, OrderedDict)
    assert list(result) == ["b", "a"]


def test_the_same_metric_twice_is_refused() -> None:
    evaluators = [Fixed({"sem_seg": {"mIoU": 1.0}}), Fixed({"sem_seg": {"mIoU": 1.0, "x": 2.0}})]
    with pytest.raises(ValueError, match=r"two evaluators report \['mIoU'\] of 'sem_seg'"):
        MergedEvaluators(evaluators).evaluate()


@pytest.mark.parametrize("nothing", [None, {}])
def test_an_evaluator_without_metrics_is_passed_over(nothing: dict | None) -> None:
    result = MergedEvaluators([Fixed(nothing), Fixed({"sem_seg": {"mIoU": 1.0}})]).evaluate()
    assert result == {"sem_seg": {"mIoU": 1.0}}


def test_no_metrics_at_all_are_none_as_on_other_processes() -> None:
    assert MergedEvaluators([Fixed(None), Fixed({})]).evaluate() is None


def test_results_of_the_evaluators_are_not_changed() -> None:
    first = Fixed({"sem_seg": {"IoU": 1.0}})
    MergedEvaluators([first, Fixed({"sem_seg": {"mIoU": 2.0}})]).evaluate()
    assert first.result == {"sem_seg": {"IoU": 1.0}}


def test_every_evaluator_sees_every_batch() -> None:
    evaluators = [Fixed(None), Fixed(None)]
    merged = MergedEvaluators(evaluators)
    merged.reset()
    merged.process(["in"], ["out"])
    assert [e.calls for e in evaluators] == [["reset", (["in"], ["out"])]] * 2


def test_outputs_are_gone_when_the_next_image_is_predicted() -> None:
    references, alive = [], []

    def model(inputs: list[dict]) -> list[dict]:
        gc.collect()
        alive.append(sum(reference() is not None for reference in references))
        output = torch.zeros(3)
        references.append(weakref.ref(output))
        return [{"sem_seg": output}]

    class Reading(Fixed):
        def process(self, inputs: list, outputs: list) -> None:
            assert outputs[0]["sem_seg"].shape == (3,)

    inference_on_dataset(model, [[{}]] * 3, MergedEvaluators([Reading(None), Reading(None)]))
    assert alive == [0, 0, 0]
