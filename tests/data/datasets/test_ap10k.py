"""AP-10K's species, keypoints and files."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from keypoint_layouts import write_ap10k

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.data.coco_json import read_keypoint_metadata
from metaprompt_d2.data.datasets import register_ap10k


def test_the_keypoints_are_those_of_the_paper() -> None:
    schema = find_keypoint_schema("ap10k_topdown_train_split1")
    assert schema.names[2:5] == ("nose", "neck", "root_of_tail")
    assert schema.names[7] == "left_front_paw"
    assert schema.flip_indices == (1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13)
    sigmas = dict(zip(schema.names, schema.oks_sigmas.tolist(), strict=True))
    assert sigmas["left_elbow"] == sigmas["right_elbow"] == 0.072
    assert sigmas["left_back_paw"] == sigmas["right_back_paw"] == 0.089


@pytest.mark.usefixtures("empty_catalogs")
def test_the_published_layout_is_read(tmp_path: Path) -> None:
    file = write_ap10k(tmp_path)
    register_ap10k(str(tmp_path))
    animals = DatasetCatalog.get("ap10k_topdown_val_split1")
    assert [item["category_id"] for item in animals[:4]] == [0, 7, 25, 53]
    assert animals[0]["file_name"] == str(tmp_path / "ap10k/data/000000000001.jpg")
    metadata = MetadataCatalog.get("ap10k_topdown_val_split1")
    assert len({*metadata.thing_classes}) == 54
    assert read_keypoint_metadata(str(file))["keypoint_names"] == metadata.keypoint_names
    assert len(DatasetCatalog.list()) == 9
