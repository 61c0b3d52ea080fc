r"""Draw a config's training data: the annotated files, or samples as the model gets them.

    python tools/visualize_data.py --source annotation --config-file configs/ade20k_seg.yaml \
        --output-dir pictures
    python tools/visualize_data.py --source dataloader --config-file configs/nyu_depth.yaml \
        --output-dir pictures

`annotation` draws the datasets' files. `dataloader` draws augmented samples: scaled, cropped,
flipped and recolored. For pose it draws crops, heatmaps and the keypoints decoded from them. For
universal segmentation both draw the segments.
"""

import argparse
import os
from collections.abc import Iterator

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Boxes, Instances

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.codecs import UDPHeatmapCodec
from metaprompt_d2.data import UniversalMapper, build_heatmap_codec, load_dataset_dicts
from metaprompt_d2.data.readers import read_checked_labels, read_depth, read_image
from metaprompt_d2.engine import Trainer, load_config
from metaprompt_d2.evaluation import merge_people
from metaprompt_d2.utils.errors import one_line_errors
from metaprompt_d2.utils.files import write_png
from metaprompt_d2.utils.tasks import find_task
from metaprompt_d2.visualization import annotated_people, draw_ground_truth


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", choices=("annotation", "dataloader"), required=True, help="what to draw")
    add("--config-file", required=True, metavar="FILE", help="config of a training")
    add("--output-dir", default="./", help="folder, created if missing (default: %(default)s)")
    add("--num-images", type=int, default=20, help="number of pictures (default: %(default)s)")
    add("opts", nargs=argparse.REMAINDER, help="config keys and values")
    return parser.parse_args(argv)


def annotations(cfg: CfgNode) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield every image of the training sets and its picture."""
    head = cfg.MODEL.SEM_SEG_HEAD
    known = {"num_classes": head.NUM_CLASSES, "ignore_value": head.IGNORE_VALUE}
    read_masks = UniversalMapper(True, augmentations=[], **known)
    for name in cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(name)
        images: dict[str, list[dict]] = {}
        for item in load_dataset_dicts(name):
            images.setdefault(item["file_name"], []).append(item)
        for items in images.values():
            item = merge_people(items)
            image = read_image(item["file_name"], "RGB")
            truth = {"people": annotated_people(item)}
            if "sem_seg_file_name" in item:
                truth["sem_seg"] = read_checked_labels(
                    item,
                    image.shape[:2],
                    num_classes=len(metadata.stuff_classes),
                    ignore_value=metadata.get("ignore_label", 255),
                )
            if find_task(cfg) == "universal":
                truth["segments"] = masks_and_classes(read_masks(item)["instances"])
            if "depth_file_name" in item:
                truth["depth"] = read_depth(item["depth_file_name"], item["depth_scale"])
            yield item, draw_ground_truth(image, metadata, **truth)


def samples(cfg: CfgNode) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield every sample of the training loader and its picture."""
    metadata: Metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    for batch in Trainer.build_train_loader(cfg):
        for item in batch:
            pixels = item["image"].permute(1, 2, 0).numpy()
            image = convert_image_to_rgb(pixels, cfg.INPUT.FORMAT).clip(0, 255).astype(np.uint8)
            keys = ("sem_seg", "depth", "heatmaps")
            truth = {key: item[key].numpy() for key in keys if key in item}
            if find_task(cfg) == "universal":
                truth["segments"] = masks_and_classes(item["instances"])
            if "heatmaps" in item:
                truth["people"] = encoded_person(item, build_heatmap_codec(cfg))
            yield item, draw_ground_truth(image, metadata, **truth)


def masks_and_classes(instances: Instances) -> tuple[list[np.ndarray], list[int]]:
    """Return the masks and classes of a sample's segments."""
    return list(instances.gt_masks.tensor.numpy()), instances.gt_classes.tolist()


def encoded_person(item: dict, codec: UDPHeatmapCodec) -> Instances:
    """Decode the person of a crop from its heatmaps."""
    keypoints, _ = codec.decode(item["heatmaps"][None])
    height, width = item["image"].shape[1:]
    person = Instances((height, width))
    person.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
    person.pred_keypoints = torch.cat([keypoints, item["keypoint_weights"][None, :, None]], dim=-1)
    return person


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    overrides = ["DATALOADER.NUM_WORKERS", "0", *args.opts]
    cfg = load_config(args.config_file, overrides)
    os.makedirs(args.output_dir, exist_ok=True)
    pictures = annotations(cfg) if args.source == "annotation" else samples(cfg)
    for number, (item, picture) in zip(range(args.num_images), pictures, strict=False):
        stem = os.path.splitext(os.path.basename(item["file_name"]))[0]
        file = os.path.join(args.output_dir, f"{number:04d}_{stem}.png")
        write_png(picture, file)
        print(file)


if __name__ == "__main__":
    main()
