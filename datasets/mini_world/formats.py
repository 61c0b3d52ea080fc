"""Write rendered scenes in the file formats of Cityscapes, KITTI depth and COCO keypoints."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import id2label

from . import dogs, people
from .panoptic import MIN_AREA, segment_colors
from .picture import Scene

CITIES = {"train": "minitown", "val": "minival"}
DATES = {"train": "2011_09_26", "val": "2011_09_28"}
# COCO labels the keypoints of medium and large people only, from 32 x 32 pixels. This is the share
# of the image at the default size, so that the same people are labeled at every size.
LABELED_SHARE = 32**2 / (256 * 512)
MAX_DEPTH = 80.0  # meters; KITTI's benchmark has no larger value

# Standard COCO skeleton, one-based.
_PERSON_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
    [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip
_DOG_SKELETON = [[1, 4], [1, 2], [1, 3], [4, 5], [4, 6], [4, 7], [5, 8], [5, 9]]  # one-based

# COCO's category of the bodies in each of the folders in COCO's layout, with COCO's ids.
CATEGORIES = {
    "coco": {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(people.KEYPOINT_NAMES),
        "skeleton": _PERSON_SKELETON,
    },
    "coco_animals": {
        "id": 18,
        "name": "dog",
        "supercategory": "animal",
        "keypoints": list(dogs.KEYPOINT_NAMES),
        "skeleton": _DOG_SKELETON,
    },
}

_TRAIN_IDS = np.full(256, 255, np.uint8)
for _id, _label in id2label.items():
    if _id >= 0:
        _TRAIN_IDS[_id] = _label.trainId if 0 <= _label.trainId < 255 else 255

_STUFF = ("sky", "road", "sidewalk", "terrain", "building", "vegetation")


def _png(pixels: np.ndarray) -> bytes:
    """Encode an 8-bit or 16-bit PNG; colors are RGB."""
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1].tobytes()


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Outer contours of a bool mask (H, W): (N, 2) float pixel coordinates with N >= 3 each."""
    # Contours run through pixel centers; enlarging keeps them near the pixels' outer edges.
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    part = mask[top : top + height, left : left + width].astype(np.uint8)
    large = np.repeat(np.repeat(part, 4, axis=0), 4, axis=1)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    smooth = (cv2.approxPolyDP(contour, 1.5, True)[:, 0] for contour in found)
    return [(contour + 0.5) / 4 + (left, top) for contour in smooth if len(contour) >= 3]


def cityscapes_polygons(scene: Scene) -> dict:
    """Content of a *_gtFine_polygons.json; far objects come first, near ones cover them."""
    ids, labels = scene.instance_ids, scene.label_ids
    values = np.unique(ids)

    def order(value: int) -> tuple[int, float]:
        name = id2label[int(value // 1000 or value)].name
        if name in _STUFF:
            return _STUFF.index(name), 0.0
        return len(_STUFF), -float(np.median(scene.depth[ids == value]))

    objects = []
    for value in sorted(values.tolist(), key=order):
        name = id2label[value // 1000 or value].name
        for polygon in outlines(ids == value):
            corners = np.floor(polygon).astype(int).tolist()
            objects.append({"label": name, "polygon": corners})
    height, width = labels.shape
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def write_cityscapes(root: Path, split: str, index: int, scene: Scene, image: bytes) -> None:
    """Write the encoded image, label maps and polygons of a scene below `root`."""
    city = CITIES[split]
    stem = f"{city}_000000_{index:06d}"
    (root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png").write_bytes(image)
    labels = scene.label_ids
    maps = {
        "labelIds": labels,
        "labelTrainIds": _TRAIN_IDS[labels],
        "instanceIds": scene.instance_ids,
        "panoptic": segment_colors(scene.instance_ids),
    }
    folder = root / "gtFine" / split / city
    for kind, pixels in maps.items():
        (folder / f"{stem}_gtFine_{kind}.png").write_bytes(_png(pixels))
    polygons = json.dumps(cityscapes_polygons(scene))
    (folder / f"{stem}_gtFine_polygons.json").write_text(polygons)


def kitti_paths(split: str, index: int) -> tuple[str, str]:
    """Image and depth map of a frame, relative to KITTI's root, with a leading slash."""
    date = DATES[split]
    drive, frame = f"{date}_drive_0001_sync", f"{index:010d}.png"
    return (
        f"/raw_data/{date}/{drive}/image_02/data/{frame}",
        f"/data_depth_annotated/{split}/{drive}/proj_depth/groundtruth/image_02/{frame}",
    )


def write_kitti(root: Path, split: str, index: int, scene: Scene, image: bytes) -> None:
    """Write the encoded image and the 16-bit depth (meters * 256, 0 = no value) below `root`."""
    image_path, depth_path = (root / path[1:] for path in kitti_paths(split, index))
    image_path.write_bytes(image)
    known = scene.depth <= MAX_DEPTH
    fixed = np.round(np.where(known, scene.depth, 0) * 256)
    depth_path.write_bytes(_png(fixed.astype(np.uint16)))


def write_coco(root: Path, split: str, index: int, scene: Scene) -> list[dict]:
    """Write the image of a scene below `root`; return its annotations, without their ids.

    Args:
        root: Folder with the name of one of the `CATEGORIES`.
    """
    jpeg = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    (root / f"{split}2017" / f"{index:012d}.jpg").write_bytes(jpeg.tobytes())
    annotations = []
    for value, keypoints in scene.posed:
        mask = scene.instance_ids == value
        polygons = outlines(mask)
        if not polygons or mask.sum() < MIN_AREA:
            continue
        if mask.mean() < LABELED_SHARE:
            keypoints = np.zeros_like(keypoints)
        rows, cols = np.nonzero(mask)
        x, y = int(cols.min()), int(rows.min())
        box = [x, y, int(cols.max()) + 1 - x, int(rows.max()) + 1 - y]
        annotations.append(
            {
                "image_id": index,
                "category_id": CATEGORIES[root.name]["id"],
                "bbox": [float(side) for side in box],
                "area": float(mask.sum()),
                "iscrowd": 0,
                "segmentation": [polygon.ravel().tolist() for polygon in polygons],
                "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            }
        )
    return annotations


def write_street(root: Path, split: str, index: int, scene: Scene) -> list[dict]:
    """Write a street in all three formats below `root`; return its COCO annotations."""
    image = _png(scene.image)
    write_cityscapes(root / "cityscapes", split, index, scene, image)
    write_kitti(root / "kitti", split, index, scene, image)
    return write_coco(root / "coco", split, index, scene)


def write_park(root: Path, split: str, index: int, scene: Scene) -> list[dict]:
    """Write a park in COCO's format below `root`; return its annotations."""
    return write_coco(root / "coco_animals", split, index, scene)


def make_folders(root: Path) -> None:
    """Create all folders that the writers need."""
    for split, city in CITIES.items():
        (root / "cityscapes" / "leftImg8bit" / split / city).mkdir(parents=True)
        (root / "cityscapes" / "gtFine" / split / city).mkdir(parents=True)
        for path in kitti_paths(split, 0):
            (root / "kitti" / path[1:]).parent.mkdir(parents=True)
        for folder in CATEGORIES:
            (root / folder / f"{split}2017").mkdir(parents=True)
    for folder in CATEGORIES:
        (root / folder / "annotations").mkdir()


def write_kitti_lists(root: Path, counts: dict[str, int]) -> None:
    """Write KITTI's lists of the files of each split below `root`."""
    for split, name in (("train", "train_list.txt"), ("val", "test_list.txt")):
        lines = [" ".join(kitti_paths(split, i)) for i in range(counts[split])]
        (root / name).write_text("\n".join(lines) + "\n")


def write_coco_annotations(
    root: Path, split: str, scenes: list[list[dict]], height: int, width: int
) -> None:
    """Write COCO's annotation file of a split below `root`, a folder as in `write_coco`.

    Args:
        scenes: Annotations of each scene, without their ids.
        height, width: Size of the images in pixels.
    """
    category = CATEGORIES[root.name]
    content = {
        "info": {"description": "Synthetic street world", "version": "1.0", "year": 2017},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": height, "width": width}
            for i in range(len(scenes))
        ],
        "annotations": [
            {"id": i + 1, **note}
            for i, note in enumerate(note for scene in scenes for note in scene)
        ],
        "categories": [category],
    }
    name = f"{category['supercategory']}_keypoints_{split}2017.json"
    (root / "annotations" / name).write_text(json.dumps(content))
