"""Write predictions as label maps, segments, depth maps, COCO keypoints and videos."""

import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BoxMode, Instances

from ..metrics import NO_CLASS, classify_pixels
from ..utils.errors import InputError, input_errors
from ..utils.files import create_temporary, path_inside, write_json, write_png

logger = logging.getLogger(__name__)


class PredictionFiles:
    """Writes predictions in formats that other programs read.

    * Semantic segmentation: `<name>_labels.png` with class ids from 0, in 16 bits if there are more
      than 255 classes. Pixels whose scores are NaN or infinite get the highest value.
    * Depth: `<name>_depth.png` with meters times `depth_scale` in 16 bits and 0 for no value. The
      scale is stored in the file as the text `depth_scale`. Depth beyond its reach has no value,
      and a warning says so.
    * Pose: one `keypoints.json` for all images in COCO's format, written by `close`.
    * Panoptic segmentation: `<name>_panoptic.png` with the ids of segments, and one `panoptic.json`
      for all images in COCO's format, written by `close`.
    * Instance segmentation: one `instances.json` for all images in COCO's format, with masks as
      RLE and scores, written by `close`.

    In COCO's files, categories are numbered from 1 in the order of the classes.
    """

    ENDINGS = ("_labels.png", "_panoptic.png", "_depth.png")

    def __init__(
        self, folder: str | os.PathLike, metadata: Metadata, *, depth_scale: float = 256.0
    ):
        """
        Args:
            folder: Output folder, created when the first file is written.
            metadata: Metadata of the `Predictor`, with "thing_classes" for segments and poses, and
                "keypoint_names" for poses.
            depth_scale: Value of one meter. 256, as in KITTI, reaches 255 m; 1000 reaches 65 m.
        """
        self.folder = Path(folder)
        self.metadata = metadata
        self.depth_scale = depth_scale
        self._images: list[dict] = []
        self._annotations: dict[str, list[dict]] = {}  # by file

    def add(self, name: str, output: dict, *, file_name: str, size: tuple[int, int]) -> None:
        """Write the prediction of one image; what goes to a JSON file waits for `close`.

        Args:
            name: Name of the output files without their suffixes.
            output: The model's output for the image.
            file_name, size: The image's entry in COCO's list; the size is (height, width).

        Raises:
            InputError: The output is of another task, or the name leads out of the folder.
        """
        instances = output.get("instances")
        has_masks = instances is not None and instances.has("pred_masks")
        has_keypoints = instances is not None and instances.has("pred_keypoints")
        if not (output.keys() & {"sem_seg", "depth", "panoptic_seg"} or has_masks or has_keypoints):
            raise InputError(
                f"the model gives {sorted(output)}: only segmentation, depth and poses are written"
            )
        if "sem_seg" in output:
            kind = np.min_scalar_type(len(output["sem_seg"]))
            classes = classify_pixels(output["sem_seg"])
            labels = np.where(classes == NO_CLASS, np.iinfo(kind).max, classes).astype(kind)
            write_png(labels, path_inside(self.folder, f"{name}_labels.png"))
        if "depth" in output:
            file = path_inside(self.folder, f"{name}_depth.png")
            self._write_depth(output["depth"].float().cpu().numpy(), file)
        if "panoptic_seg" in output or has_masks or has_keypoints:
            image_id, (height, width) = len(self._images) + 1, size
            image = {"id": image_id, "file_name": file_name, "height": height, "width": width}
            self._images.append(image)
        if "panoptic_seg" in output:
            segments, infos = output["panoptic_seg"]
            self._write_segments(segments, infos, f"{name}_panoptic.png", image_id)
        if has_keypoints:
            self._add_people(instances, image_id)
        elif has_masks:
            self._add_masks(instances, image_id)

    def _write_depth(self, depth: np.ndarray, file: Path) -> None:
        values = np.rint(depth * self.depth_scale)
        beyond = values > 65535
        known = (depth > 0) & ~beyond  # False for NaN
        pixels = np.where(known, values.clip(min=1), 0).astype(np.uint16)
        write_png(pixels, file, depth_scale=f"{self.depth_scale:g}")
        if beyond.any():
            reach, deepest = 65535 / self.depth_scale, depth[beyond].max()
            logger.warning(
                "%s: %d pixels have no value (0), because they are above %.3f m, the reach of "
                "depth_scale %g. The deepest one is %.1f m; a smaller scale reaches further",
                *(file, beyond.sum(), reach, self.depth_scale, deepest),
            )

    def _write_segments(
        self, segments: torch.Tensor, infos: list[dict], file_name: str, image_id: int
    ) -> None:
        ids = segments.cpu().numpy()
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        write_png(colors, path_inside(self.folder, file_name))
        described = [
            {"id": info["id"], "category_id": info["category_id"] + 1, "iscrowd": 0}
            | {"area": int((ids == info["id"]).sum())}
            for info in infos
        ]
        annotation = {"image_id": image_id, "file_name": file_name, "segments_info": described}
        self._annotations.setdefault("panoptic.json", []).append(annotation)

    def _add_masks(self, instances: Instances, image_id: int) -> None:
        notes = self._annotations.setdefault("instances.json", [])
        for note in instances_to_coco_json(instances.to("cpu"), image_id):
            notes.append(note | {"id": len(notes) + 1, "category_id": note["category_id"] + 1})

    def _add_people(self, people: Instances, image_id: int) -> None:
        notes = self._annotations.setdefault("keypoints.json", [])
        corners = people.pred_boxes.tensor.cpu().numpy()
        boxes = BoxMode.convert(corners, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        keypoints = people.pred_keypoints.cpu()
        found = keypoints.isfinite().all(dim=-1, keepdim=True)  # others become 0, 0 with flag 0
        points, scores = keypoints.where(found, 0).split([2, 1], dim=-1)
        # COCO's third value is a flag (2: visible), so scores get a field of their own.
        flagged = torch.cat([points, 2 * found], dim=-1)
        fields = boxes, flagged, scores, people.scores.cpu(), people.pred_classes.tolist()
        for box, keypoints, keypoint_scores, score, index in zip(*fields, strict=True):
            notes.append(
                {
                    "id": len(notes) + 1,
                    "image_id": image_id,
                    "category_id": index + 1,
                    "iscrowd": 0,
                    "bbox": _round(box),
                    "area": float(box[2] * box[3]),
                    "keypoints": _round(keypoints),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                    "keypoint_scores": _round(keypoint_scores),
                    "score": float(score),
                }
            )

    def close(self) -> None:
        """Write the JSON files of what was added."""
        for file_name, annotations in self._annotations.items():
            parts = {
                "images": self._images,
                "annotations": annotations,
                "categories": self._categories(file_name),
            }
            write_json(parts, self.folder / file_name)

    def _categories(self, file_name: str) -> list[dict]:
        categories: list[dict] = [
            {"id": number, "name": name}
            for number, name in enumerate(self.metadata.thing_classes, start=1)
        ]
        if file_name == "keypoints.json":
            names = list(self.metadata.keypoint_names)
            return [category | {"keypoints": names} for category in categories]
        if file_name == "panoptic.json":
            things = set(self.metadata.thing_dataset_id_to_contiguous_id.values())
            return [
                category | {"isthing": int(index in things)}
                for index, category in enumerate(categories)
            ]
        return categories


def _round(values: np.ndarray | torch.Tensor) -> list[float]:
    return np.asarray(values, np.float64).round(3).ravel().tolist()


class VideoFile(AbstractContextManager["VideoFile"]):
    """Context manager that writes an .mp4 video with OpenCV, and its folder.

    All frames have the size of the first one. The format needs an even width and height; odd ones
    get their last column or row twice. The file appears at the end unless an error occurs.

    Raises:
        InputError: At the end, if the file doesn't hold all frames, for instance because the disk
            is full. OpenCV itself doesn't say so.
    """

    def __init__(self, file: Path, frames_per_second: float):
        self.file, self.frames_per_second = file, frames_per_second
        self._temporary: Path | None = None
        self._writer: cv2.VideoWriter | None = None
        self._num_frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) uint8 RGB.

        Raises:
            InputError: OpenCV cannot write the file.
        """
        rows, columns = (side % 2 for side in frame.shape[:2])
        frame = np.pad(frame[..., ::-1], ((0, rows), (0, columns), (0, 0)), mode="edge")
        if self._writer is None:
            codec, size = cv2.VideoWriter.fourcc(*"mp4v"), frame.shape[1::-1]
            with input_errors(f"{self.file} cannot be written", OSError):
                self._temporary = create_temporary(self.file, f".tmp{self.file.suffix}")
            file = str(self._temporary)
            self._writer = cv2.VideoWriter(file, codec, self.frames_per_second, size)
            if not self._writer.isOpened():
                raise InputError(f"OpenCV cannot write the video {self.file}")
        self._writer.write(np.ascontiguousarray(frame))
        self._num_frames += 1

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._writer is None or self._temporary is None:  # no frame was written
            return
        try:
            self._writer.release()
            if error is None:
                self._check()
                os.replace(self._temporary, self.file)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        count = sum(1 for _ in iter(cv2.VideoCapture(str(self._temporary)).grab, False))
        if count != self._num_frames:
            raise InputError(
                f"{self.file} cannot be written: {count} of {self._num_frames} frames arrived in "
                "the file; is the disk full?"
            )
