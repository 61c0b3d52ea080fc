"""COCO's people and the mini world's are registered under the recipes' names."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices

from metaprompt_d2.data import find_keypoint_schema, register_keypoints


def test_our_names_are_registered() -> None:
    names = {f"coco_2017_person_topdown_{part}" for part in ("train", "val_gt", "val_det")}
    kinds = ("person", "animal")
    names |= {f"mini_coco_{kind}_topdown_{split}" for kind in kinds for split in ("train", "val")}
    assert names <= set(DatasetCatalog.list())
    assert MetadataCatalog.get("coco_2017_person_topdown_val_det").detections_file
    with pytest.raises(ValueError, match="'coco_2017_person_topdown_train' is registered already"):
        register_keypoints("coco_2017_person_topdown_train", "", "")


def test_the_schema_is_cocos() -> None:
    schema = find_keypoint_schema("coco_2017_person_topdown_val_det")
    theirs = MetadataCatalog.get("keypoints_coco_2017_val")
    assert schema.names == theirs.keypoint_names
    assert list(schema.flip_indices) == create_keypoint_hflip_indices(theirs.name)
    lower = {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle")}
    assert {*schema.names} - {*schema.upper_body} == lower
