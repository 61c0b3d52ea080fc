"""`PoseMapper`: cut people out of images for `TopDownPoseEstimator`."""

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torchvision.ops import nms

from ...codecs import (
    KeypointSchema,
    UDPHeatmapCodec,
    box_to_crop,
    crop_matrix,
    transform_points,
)
from ...utils.errors import InputError
from ..keypoint_schemas import build_keypoint_schema, check_flip_pairs
from ..pose_augmentation import (
    HalfBody,
    JitterCenter,
    MirrorPerson,
    PersonView,
    ScaleAndRotate,
    ViewAugmentation,
)
from .base import ImageMapper, to_tensor


def build_heatmap_codec(cfg: CfgNode) -> UDPHeatmapCodec:
    """Build the codec of INPUT.PERSON_CROP.SIZE and MODEL.HEATMAP_HEAD.

    Raises:
        InputError: The crop's sides aren't multiples of the heatmaps' stride.
    """
    head, size = cfg.MODEL.HEATMAP_HEAD, cfg.INPUT.PERSON_CROP.SIZE
    if len(size) != 2 or any(side % head.STRIDE for side in size):
        raise InputError(
            f"INPUT.PERSON_CROP.SIZE is {size}, expected (height, width) in multiples of "
            f"MODEL.HEATMAP_HEAD.STRIDE {head.STRIDE}"
        )
    height, width = size
    return UDPHeatmapCodec(
        (height, width),
        (height // head.STRIDE, width // head.STRIDE),
        sigma=head.SIGMA,
        blur_kernel=head.BLUR_KERNEL,
    )


class PoseMapper(ImageMapper):
    """Cuts a person out of the image and, in training, draws the heatmaps of the keypoints.

    This is ViTPose's procedure with UDP's coordinates (docs/method.md#vitpose-recipe).
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        schema: KeypointSchema,
        codec: UDPHeatmapCodec,
        augmentations: list[ViewAugmentation],
        padding: float = 1.25,
        image_format: str = "RGB",
        box_score_threshold: float = 0.0,
        box_nms_threshold: float = 1.0,
        test_batch_size: int = 1,
    ):
        """
        Args:
            is_train, image_format: As in `ImageMapper`.
            schema: Keypoints that each person has.
            codec: Codec with the sizes of crops and heatmaps.
            augmentations: Augmentations of the view in their order.
            padding: Factor on the person's box.
            box_score_threshold, box_nms_threshold: Thresholds of the people that `select` keeps.
            test_batch_size: Samples that a process takes from a test set at once.
        """
        super().__init__(is_train, image_format)
        self.schema = schema
        self.codec = codec
        self.augmentations = augmentations
        self.padding = padding
        self.box_score_threshold = box_score_threshold
        self.box_nms_threshold = box_nms_threshold
        self.test_batch_size = test_batch_size

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        schema = build_keypoint_schema(cfg)
        return {
            "is_train": is_train,
            "schema": schema,
            "codec": build_heatmap_codec(cfg),
            "augmentations": _train_augmentations(cfg, schema) if is_train else [],
            "padding": cfg.INPUT.PERSON_CROP.PADDING,
            "image_format": cfg.INPUT.FORMAT,
            "box_score_threshold": cfg.TEST.POSE.BOX_SCORE_THRESH,
            "box_nms_threshold": cfg.TEST.POSE.BOX_NMS_THRESH,
            "test_batch_size": cfg.TEST.POSE.PEOPLE_PER_BATCH,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map a person to the model's input.

        Args:
            dataset_dict: One person of `load_annotated_people` or `load_detected_people`.

        Returns:
            The dict with

                * "image": the crop (C, H, W) uint8;
                * "crop_center", "crop_extent": (2,) in pixels of the file, x then y;
                * in training "heatmaps": (J, h, w) float32, and "keypoint_weights": (J,) float32.

        Raises:
            FileNotFoundError, InputError: A file is missing, unreadable or of another size, or the
                person has another number of keypoints.
        """
        dataset_dict, image = self.read(dataset_dict)
        view = self._view(dataset_dict)
        for augmentation in self.augmentations:
            view = augmentation(view, image.shape[1])
        if view.mirrored:
            image = image[:, ::-1]
        height, width = self.codec.crop_size
        matrix = crop_matrix(view.center, view.extent, (height, width), view.rotation)
        crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height))
        dataset_dict["image"] = to_tensor(crop)
        dataset_dict["crop_center"] = torch.from_numpy(view.center)
        dataset_dict["crop_extent"] = torch.from_numpy(view.extent)
        if self.is_train:
            keypoints = transform_points(view.keypoints, matrix)
            heatmaps, weights = self.codec.encode(keypoints, view.visible)
            dataset_dict["heatmaps"] = torch.from_numpy(heatmaps)
            dataset_dict["keypoint_weights"] = torch.from_numpy(weights)
        return dataset_dict

    def select(self, dataset_dicts: list[dict]) -> list[dict]:
        """Keep the people of a test set whose boxes pass the thresholds, in their order."""
        kept = [item for item in dataset_dicts if item["box_score"] >= self.box_score_threshold]
        if self.box_nms_threshold >= 1:
            return kept
        places: dict[tuple, list[int]] = {}
        for place, item in enumerate(kept):
            places.setdefault((item["image_id"], item["category_id"]), []).append(place)
        survivors: list[int] = []
        for indices in places.values():
            boxes = torch.tensor([kept[index]["person_box"] for index in indices]).double()
            boxes[:, 2:] += boxes[:, :2]
            scores = torch.tensor([kept[index]["box_score"] for index in indices]).double()
            chosen = nms(boxes, scores, self.box_nms_threshold)
            survivors += [indices[index] for index in chosen.tolist()]
        return [kept[index] for index in sorted(survivors)]

    def _view(self, dataset_dict: dict) -> PersonView:
        keypoints = np.zeros((len(self.schema), 3))
        if self.is_train:
            values = dataset_dict["annotations"][0]["keypoints"]
            if len(values) != keypoints.size:
                raise InputError(
                    f"person {dataset_dict.get('person_id')} of {dataset_dict['file_name']} has "
                    f"{len(values) / 3:g} keypoints, expected {len(self.schema)}"
                )
            keypoints = np.array(values, np.float64).reshape(keypoints.shape)
        box = np.array(dataset_dict["person_box"], np.float64)
        height, width = self.codec.crop_size
        center, extent = box_to_crop(box, aspect=width / height, padding=self.padding)
        return PersonView(keypoints[:, :2], keypoints[:, 2] > 0, box[2:], center, extent)


def _train_augmentations(cfg: CfgNode, schema: KeypointSchema) -> list[ViewAugmentation]:
    aug, flip = cfg.INPUT.POSE_AUG, cfg.INPUT.RANDOM_FLIP
    if flip not in ("horizontal", "none"):
        raise InputError(f"INPUT.RANDOM_FLIP is {flip!r}, pose knows 'horizontal' and 'none'")
    if flip == "horizontal":
        check_flip_pairs(schema, "INPUT.RANDOM_FLIP 'none'")
    return [
        JitterCenter(aug.CENTER_JITTER_PROB, aug.CENTER_JITTER),
        *([MirrorPerson(schema)] if flip == "horizontal" else []),
        HalfBody(
            schema,
            aug.HALF_BODY_PROB,
            min_keypoints=aug.HALF_BODY_MIN_JOINTS,
            upper_probability=aug.HALF_BODY_UPPER_PROB,
            padding=aug.HALF_BODY_PADDING,
        ),
        ScaleAndRotate(aug.SCALE, aug.ROTATION, aug.ROTATION_PROB),
    ]
