"""`PersonDetector`: find people or other objects with any detector of Detectron2."""

import re
from collections.abc import Mapping

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from torch import Tensor

from ..checkpoint import find_state_dict, load_checkpoint, unwrap
from ..config import read_config_file
from ..data import find_keypoint_metadata
from ..utils.errors import InputError, MissingFileError, input_errors
from .detector_classes import find_class_names, match_classes
from .person_crops import make_people

_MODEL_ZOO = "model_zoo://"


class PersonDetector:
    """Finds people, or objects of other categories, in images.

    It isn't an `nn.Module`, so that a pose model with a detector neither trains nor saves it. The
    weights are read at the first call.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        image_format: str,
        classes: Mapping[int, int],
        score_threshold: float,
    ):
        """
        Args:
            cfg: Config of the detector; with an empty MODEL.WEIGHTS its weights are random.
            image_format: Format of the images that it is called with.
            classes: Index of the category for each class of the detector that counts.
            score_threshold: Lowest score of a detection that counts.
        """
        self.cfg = cfg
        self.swaps_channels = image_format != cfg.INPUT.FORMAT
        self.classes = classes
        self.score_threshold = score_threshold
        self._model: torch.nn.Module | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PersonDetector":
        """Make the detector of MODEL.PERSON_DETECTOR.

        Raises:
            MissingFileError: CONFIG_FILE is neither a file nor in Detectron2's model zoo.
            InputError: CONFIG_FILE is wrong, WEIGHTS is empty and the model zoo has none, or the
                detector's classes don't match the dataset's categories (see `match_classes`).
        """
        node, detector = cfg.MODEL.PERSON_DETECTOR, get_cfg()
        file, weights = _find_files(node.CONFIG_FILE, node.WEIGHTS)
        with input_errors(f"MODEL.PERSON_DETECTOR.CONFIG_FILE {file}", KeyError, ValueError):
            detector.merge_from_other_cfg(read_config_file(file))
        detector.MODEL.DEVICE = cfg.MODEL.DEVICE
        detector.MODEL.WEIGHTS = weights
        return cls(
            detector,
            image_format=cfg.INPUT.FORMAT,
            classes=match_classes(
                find_keypoint_metadata(cfg)["thing_classes"],
                find_class_names(detector),
                classes=node.CLASSES,
                person_class=node.PERSON_CLASS,
            ),
            score_threshold=node.SCORE_THRESH,
        )

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Instances:
        """Find objects in an image (3, H, W), 0..255, as `given_people` returns them."""
        if self._model is None:
            self._model = self._load()
        height, width = image.shape[-2:]
        pixels = image.cpu().permute(1, 2, 0).numpy()
        if self.swaps_channels:
            pixels = pixels[:, :, ::-1]
        test = self.cfg.INPUT
        resize = T.ResizeShortestEdge([test.MIN_SIZE_TEST] * 2, test.MAX_SIZE_TEST)
        resized = resize.get_transform(pixels).apply_image(pixels).transpose(2, 0, 1)
        inputs = {"image": torch.from_numpy(resized.copy()), "height": height, "width": width}
        found = self._model([inputs])[0]["instances"]
        classes = [self.classes.get(index, -1) for index in found.pred_classes.tolist()]
        categories = found.pred_classes.new_tensor(classes)
        counts = (categories >= 0) & (found.scores >= self.score_threshold)
        found, categories = found[counts], categories[counts]
        return make_people((height, width), found.pred_boxes, found.scores, categories)

    def _load(self) -> torch.nn.Module:
        model = build_model(self.cfg).eval()
        if self.cfg.MODEL.WEIGHTS:
            weights = self.cfg.MODEL.WEIGHTS
            with input_errors(f"weights of the person detector {weights}", OSError):
                file = PathManager.get_local_path(weights)  # downloads a URL once
            state = unwrap(find_state_dict(load_checkpoint(file), file))
            # Detectron2's own files lack the pixel statistics and the anchors.
            missing = set(model.state_dict()) - set(state)
            missing = {
                name
                for name in missing
                if not re.match(r"pixel_|anchor_|.*\.anchor_generator\.", name)
            }
            if missing:
                raise InputError(
                    f"{file} lacks {len(missing)} tensors of the person detector, such as "
                    f"{min(missing)!r}"
                )
            model.load_state_dict(state, strict=False)
        return model


def _find_files(config_file: str, weights: str) -> tuple[str, str]:
    """Find the config and the weights of a detector; those of the model zoo may be a URL."""
    path, name = PathManager.get_local_path(config_file), config_file.removeprefix(_MODEL_ZOO)
    in_zoo = config_file != name or not PathManager.isfile(path)
    if in_zoo:
        path = PathManager.get_local_path(f"{_MODEL_ZOO}{name}")
    if not PathManager.isfile(path):
        raise MissingFileError(
            f"MODEL.PERSON_DETECTOR.CONFIG_FILE {config_file} is neither a file nor in "
            "Detectron2's model zoo"
        )
    if not weights and in_zoo:
        from detectron2.model_zoo import get_checkpoint_url  # imports pkg_resources, which warns

        with input_errors("MODEL.PERSON_DETECTOR.WEIGHTS is empty", RuntimeError):
            return path, get_checkpoint_url(name)
    if not weights:
        raise InputError(
            "MODEL.PERSON_DETECTOR.WEIGHTS is empty, so people would be found at random: "
            f"expected the weights of {config_file}"
        )
    return path, weights
