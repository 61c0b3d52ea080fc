"""AP of instances where things and stuff share their classes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Instances
from helpers import smallest_cfg
from pycocotools import mask as rle

from metaprompt_d2.data import register_panoptic
from metaprompt_d2.evaluation import build_evaluators
from metaprompt_d2.evaluation.instances import ThingsEvaluator
from metaprompt_d2.utils.errors import InputError

NAME = "test_things"
HEIGHT, WIDTH = 32, 48
# The things are classes 1 and 3; their order in the file is the other way around.
CATEGORIES = [
    {"id": 8, "name": "sky", "isthing": 0},
    {"id": 7, "name": "car", "isthing": 1},
    {"id": 6, "name": "road", "isthing": 0},
    {"id": 5, "name": "person", "isthing": 1},
]


def masks() -> np.ndarray:
    """Two cars and a person."""
    found = np.zeros((3, HEIGHT, WIDTH), bool)
    found[0, 2:20, 3:15] = found[1, 5:30, 20:30] = found[2, 1:25, 35:45] = True
    return found


@pytest.fixture
def things(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "instances.json"
    notes = []
    for number, (mask, category) in enumerate(zip(masks(), [7, 7, 5], strict=True)):
        encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        encoded["counts"] = encoded["counts"].decode()
        box = rle.toBbox(encoded).tolist()
        note = {"id": number + 1, "image_id": 1, "category_id": category, "iscrowd": 0}
        notes.append(note | {"bbox": box, "area": int(mask.sum()), "segmentation": encoded})
    image = {"id": 1, "file_name": "1.jpg", "height": HEIGHT, "width": WIDTH}
    categories = [category for category in CATEGORIES if category["isthing"]]
    content = {"images": [image], "annotations": notes, "categories": categories}
    file.write_text(json.dumps(content))
    register_panoptic(NAME, "", "", "", categories=CATEGORIES, instances_json=str(file))
    yield file
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_models_of_any_task_are_scored_by_it_where_things_are_not_first(
    things: Path, tmp_path: Path
) -> None:
    """Detectron2's own evaluator stops at such classes."""
    ids = MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id
    name = f"{NAME}_of_a_detector"
    MetadataCatalog.get(name).set(
        evaluator_type="coco",
        json_file=str(things),
        thing_classes=[category["name"] for category in CATEGORIES],
        thing_dataset_id_to_contiguous_id=ids,
    )
    cfg = smallest_cfg({"OUTPUT_DIR": str(tmp_path)})
    assert [type(part) for part in build_evaluators(cfg, name)] == [ThingsEvaluator]
    MetadataCatalog.remove(name)


def score(classes: list[int], output_dir: Path) -> dict:
    found = Instances((HEIGHT, WIDTH))
    found.pred_masks = torch.from_numpy(masks())[: len(classes)]
    found.pred_boxes = BitMasks(found.pred_masks).get_bounding_boxes()
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    found.scores = torch.linspace(0.9, 0.5, len(classes))
    evaluator = ThingsEvaluator(NAME, str(output_dir))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    assert found.pred_classes.tolist() == classes
    return evaluator.evaluate()["segm"]


def test_classes_of_things_are_found_among_all(things: Path, tmp_path: Path) -> None:
    found = score([1, 1, 3], tmp_path)
    assert [found[key] for key in ("AP", "AP-car", "AP-person")] == pytest.approx([100] * 3)
    # One of two cars and no person: a recall of 1/2, 51 of 101 steps.
    found = score([1, 3, 1], tmp_path)
    assert found["AP-car"] == pytest.approx(100 * 51 / 101)
    assert found["AP-person"] == 0


def test_instances_of_stuff_are_left_out(things: Path, tmp_path: Path) -> None:
    found = score([1, 0, 2], tmp_path)
    assert found["AP-car"] == pytest.approx(100 * 51 / 101) and found["AP-person"] == 0
    assert np.isnan(score([0, 2], tmp_path)["AP"])  # nothing is predicted, as in Detectron2


def test_a_missing_file_is_named(things: Path, tmp_path: Path) -> None:
    things.unlink()
    with pytest.raises(InputError, match=r"instances\.json does not exist"):
        ThingsEvaluator(NAME, str(tmp_path))
