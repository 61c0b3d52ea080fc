r"""Draw predictions of an evaluation next to the image and ground truth.

    python tools/visualize_predictions.py --dataset ade20k_sem_seg_val --output pictures \
        --input output/ade20k_seg/inference/ade20k_sem_seg_val/sem_seg_predictions.json
    python tools/visualize_predictions.py --dataset kitti_eigen_test --output pictures \
        --input output/kitti_depth/inference/kitti_eigen_test/depth
    python tools/visualize_predictions.py --dataset mini_coco_person_topdown_val --output pictures \
        --input output/mini_coco_pose/inference/mini_coco_person_topdown_val/keypoints_results.json

Input is the evaluator's sem_seg_predictions.json, its keypoints_results.json, or the folder of
depth maps that TEST.DEPTH_EVAL.SAVE_PNG writes.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycocotools.mask
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.codecs import KeypointSchema
from metaprompt_d2.data import find_keypoint_schema, load_dataset_dicts
from metaprompt_d2.data.coco_json import check_posed_people, read_people
from metaprompt_d2.data.readers import read_depth, read_image
from metaprompt_d2.evaluation import draw_prediction, merge_people
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.files import paths_below_common_folder, read_json, write_png

DEPTH_SCALE = 256.0  # values per meter in the evaluator's PNGs

# Returns the model output of a dataset dict, or None without a prediction.
Reader = Callable[[dict], dict | None]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, help="JSON file or folder of PNGs")
    add("--output", type=Path, required=True, help="folder to write to, created if missing")
    add("--dataset", required=True, help="name of the registered dataset")
    threshold = "minimum score of people to draw (default: %(default)s)"
    add("--score-threshold", type=float, default=0.0, help=threshold)
    add("--num-images", type=int, default=20, help="number of pictures (default: %(default)s)")
    args = parser.parse_args(argv)
    if not args.input.exists():
        parser.error(f"{args.input} does not exist")
    return args


def json_reader(
    file: Path, items: list[dict], metadata: Metadata, score_threshold: float
) -> Reader:
    """Read an evaluator's JSON file, which holds masks or keypoints.

    Raises:
        InputError: The file holds neither.
    """
    entries = read_json(str(file))
    if isinstance(entries, list) and all(map(is_mask, entries)):
        return sem_seg_reader(file, entries, items, metadata)
    if isinstance(entries, list) and all(map(is_posed, entries)):
        schema = find_keypoint_schema(metadata.name)
        people = check_posed_people(str(file), entries, len(schema), parts=schema.parts)
        if len(metadata.thing_classes) > 1:
            name_categories(file, people, schema, metadata)
        return people_reader(people, len(schema), score_threshold)
    raise InputError(
        f"{file} isn't a list of predictions: keypoints (image_id, score, keypoints), or masks "
        "(file_name, category_id, segmentation with size and counts)"
    )


def name_categories(
    file: Path, people: list[dict], schema: KeypointSchema, metadata: Metadata
) -> None:
    """Add to each person the index of its category in `thing_classes` as "class".

    Raises:
        InputError: A person has none of the dataset's categories.
    """
    truth = metadata.json_file, metadata.thing_classes, len(schema)
    classes = read_people(*truth, parts=schema.parts).classes
    for number, person in enumerate(people):
        if (category := person.get("category_id")) not in classes:
            raise InputError(
                f"{file}: entries[{number}] has category_id {category}, expected one of "
                f"{', '.join(map(str, classes))}, as in {metadata.json_file}"
            )
        person["class"] = classes[category]


def people_reader(entries: list[dict], num_keypoints: int, score_threshold: float) -> Reader:
    """Read people in COCO's result format; their boxes enclose their keypoints.

    Images with predictions below the threshold only are drawn, without people.
    """
    people: dict[int | str, list[dict]] = {entry["image_id"]: [] for entry in entries}
    for entry in entries:
        if entry["score"] >= score_threshold:
            people[entry["image_id"]].append(entry)

    def read(item: dict) -> dict | None:
        if item["image_id"] not in people:
            return None
        found = people[item["image_id"]]
        numbers = np.reshape([each["keypoints"] for each in found], (-1, num_keypoints, 3))
        keypoints = torch.tensor(numbers, dtype=torch.float32)
        instances = Instances((item["height"], item["width"]))
        corners = [keypoints[..., :2].amin(dim=1), keypoints[..., :2].amax(dim=1)]
        instances.pred_boxes = Boxes(torch.cat(corners, dim=1))
        instances.pred_keypoints = keypoints
        instances.pred_classes = torch.tensor([each.get("class", 0) for each in found]).long()
        return {"instances": instances}

    return read


def sem_seg_reader(
    file: Path, entries: list[dict], items: list[dict], metadata: Metadata
) -> Reader:
    """Read one mask per class and image. The images may have moved together with their folders.

    The reader raises InputError if a mask doesn't fit the dataset's image or classes.
    """
    masks = defaultdict(list)
    for entry in entries:
        masks[entry["file_name"]].append(entry)
    key_of = {item["file_name"]: item["file_name"] for item in items}
    if masks and not masks.keys() & key_of:
        key_of, keys = paths_below_common_folder(key_of), paths_below_common_folder(masks)
        masks = {keys[name]: group for name, group in masks.items()}
    to_class = metadata.get("stuff_dataset_id_to_contiguous_id", {})
    num_classes = len(metadata.get("stuff_classes", ()))

    def read(item: dict) -> dict | None:
        entries = masks.get(key_of[item["file_name"]], [])
        if not entries:
            return None
        image = read_image(item["file_name"], "RGB")
        classes = np.zeros(image.shape[:2], np.int64)
        for entry in entries:
            number = to_class.get(entry["category_id"], entry["category_id"])
            size = tuple(entry["segmentation"]["size"])
            if size != classes.shape or not 0 <= number < num_classes:
                raise InputError(
                    f"{file}: a mask of {size} pixels of class {number}, expected one of "
                    f"{classes.shape} and 0..{num_classes - 1} for {item['file_name']}"
                )
            mask = pycocotools.mask.decode(entry["segmentation"])
            classes[mask.astype(bool)] = number
        scores = torch.zeros(num_classes, *classes.shape, dtype=torch.uint8)
        return {"sem_seg": scores.scatter_(0, torch.from_numpy(classes)[None], 1)}

    return read


def is_mask(entry: object) -> bool:
    """Check whether an entry is a mask for `sem_seg_reader`."""
    try:
        size, counts = entry["segmentation"]["size"], entry["segmentation"]["counts"]
        kinds = [type(entry["file_name"]), type(entry["category_id"]), type(counts)]
        return kinds == [str, int, str] and [type(side) for side in size] == [int, int]
    except (KeyError, IndexError, TypeError):
        return False


def is_posed(entry: object) -> bool:
    """Check whether an entry is a person for `people_reader`."""
    return isinstance(entry, dict) and "keypoints" in entry


def depth_reader(folder: Path, items: list[dict]) -> Reader:
    """Read an evaluator's folder of PNGs, laid out like the images."""
    names = paths_below_common_folder([item["file_name"] for item in items])

    def read(item: dict) -> dict | None:
        file = (folder / names[item["file_name"]]).with_suffix(".png")
        if not file.is_file():
            return None
        return {"depth": torch.from_numpy(read_depth(str(file), DEPTH_SCALE))}

    return read


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    metadata, items = MetadataCatalog.get(args.dataset), load_dataset_dicts(args.dataset)
    read = depth_reader(args.input, items) if args.input.is_dir() else None
    read = read or json_reader(args.input, items, metadata, args.score_threshold)
    images = defaultdict(list)
    for item in items:
        images[item["file_name"]].append(item)
    args.output.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for item in map(merge_people, images.values()):
        output = read(item) if drawn < args.num_images else None
        if output is None:
            continue
        stem = os.path.splitext(os.path.basename(item["file_name"]))[0]
        file = args.output / f"{drawn:04d}_{stem}.png"
        write_png(draw_prediction(item, output, metadata), file)
        print(file)
        drawn += 1
    if not drawn:
        raise InputError(f"{args.input} has no prediction of {args.dataset}")


if __name__ == "__main__":
    main()
