"""Predictions as files that other programs read: label maps, depth maps, COCO's keypoints."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.structures import BoxMode, Instances

from ..codecs import KEYPOINT_NAMES
from ..utils.errors import InputError
from ..utils.files import atomic_write, write_png

__all__ = ["PredictionFiles", "VideoFile"]


class PredictionFiles:
    """Writes what models predict.

    * semantic segmentation: `<name>_labels.png`, class ids from 0 (16 bits beyond 256 classes);
    * depth: `<name>_depth.png`, 16 bits, metres times `depth_scale`, 0 = no value; the scale stands
      in the file as text `depth_scale`;
    * poses: one `keypoints.json` for all images in COCO's format, written by `close`.
    """

    ENDINGS = ("_labels.png", "_depth.png")

    def __init__(self, folder: str | os.PathLike, *, depth_scale: float = 256.0):
        """
        Args:
            folder: made where something is written.
            depth_scale: 256, as KITTI's, holds 255 m; 1000, millimetres, 65 m.
        """
        self.folder = Path(folder)
        self.depth_scale = depth_scale
        self._images: list[dict] = []
        self._people: list[dict] = []

    def add(self, name: str, output: dict, *, file_name: str, size: tuple[int, int]) -> None:
        """
        Args:
            name: of the image's files.
            output: of a model for one image.
            file_name: of the image, for COCO's list of images.
            size: (height, width) of the image.

        Raises:
            InputError: an output of another task.
        """
        if "sem_seg" in output:
            num_classes, labels = len(output["sem_seg"]), output["sem_seg"].argmax(dim=0)
            kind = np.uint8 if num_classes <= 256 else np.uint16
            write_png(labels.cpu().numpy().astype(kind), self.folder / f"{name}_labels.png")
        elif "depth" in output:
            scaled = output["depth"].float().nan_to_num(0).cpu().numpy() * self.depth_scale
            values = np.rint(scaled).clip(0, 65535).astype(np.uint16)
            file = self.folder / f"{name}_depth.png"
            write_png(values, file, depth_scale=f"{self.depth_scale:g}")
        elif "instances" in output and output["instances"].has("pred_keypoints"):
            self._add_people(output["instances"], file_name, size)
        else:
            raise InputError(
                f"the model gives {sorted(output)}: only segmentation, depth and poses are written"
            )

    def _add_people(self, people: Instances, file_name: str, size: tuple[int, int]) -> None:
        image_id = len(self._images) + 1
        height, width = size
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        corners = people.pred_boxes.tensor.cpu().numpy()
        boxes = BoxMode.convert(corners, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        joints = people.pred_keypoints.cpu()
        # COCO's third value is a flag; the joints' own scores stand beside it.
        flagged = torch.cat([joints[..., :2], torch.full_like(joints[..., 2:], 2)], dim=-1)
        fields = boxes, flagged, joints[..., 2], people.scores.cpu()
        for box, points, joint_scores, score in zip(*fields, strict=True):
            self._people.append(
                {
                    "id": len(self._people) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": _rounded(box),
                    "area": float(box[2] * box[3]),
                    "keypoints": _rounded(points),
                    "num_keypoints": len(points),
                    "keypoint_scores": _rounded(joint_scores),
                    "score": float(score),
                }
            )

    def close(self) -> None:
        """Write `keypoints.json` if there were poses."""
        if not self._images:
            return
        person = {"id": 1, "name": "person", "keypoints": list(KEYPOINT_NAMES)}
        content = {
            "images": self._images,
            "annotations": self._people,
            "categories": [person],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content).encode()
        atomic_write(self.folder / "keypoints.json", lambda stream: stream.write(text))


def _rounded(values: np.ndarray | torch.Tensor) -> list[float]:
    return np.asarray(values, np.float64).round(3).ravel().tolist()


class VideoFile:
    """A video, written whole or not at all, by OpenCV.

    Frames have the first one's size.
    """

    def __init__(self, file: Path, frames_per_second: float):
        """
        Args:
            file: an .mp4; its folder is made.
            frames_per_second: of the frames to come.
        """
        self.file = file
        self.frames_per_second = frames_per_second
        self._temporary = file.with_name(f"{file.stem}.tmp{file.suffix}")
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add (H, W, 3) uint8 RGB.

        Raises:
            OSError: OpenCV cannot write the file.
        """
        if self._writer is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(
                str(self._temporary),
                cv2.VideoWriter_fourcc(*"mp4v"),
                self.frames_per_second,
                frame.shape[1::-1],
            )
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write the video {self.file}")
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    @classmethod
    @contextmanager
    def open(cls, file: Path, frames_per_second: float) -> Iterator["VideoFile"]:
        """The file to write to; it gets its name where nothing went wrong."""
        video = cls(file, frames_per_second)
        try:
            yield video
            if video._writer is not None:
                video._writer.release()
                os.replace(video._temporary, file)
        finally:
            if video._writer is not None:
                video._writer.release()
            video._temporary.unlink(missing_ok=True)
