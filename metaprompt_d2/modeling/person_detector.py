"""`PersonDetector`: find people with any detector of Detectron2."""

import re

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from torch import Tensor

from ..checkpoint import find_state_dict, load_checkpoint, unwrap
from ..utils.errors import InputError, MissingFileError
from .person_crops import make_people


class PersonDetector:
    """Finds people in images.

    It isn't an `nn.Module`, so that a pose model with a detector neither trains nor saves it. The
    weights are read at the first call.
    """

    def __init__(
        self, cfg: CfgNode, *, image_format: str, person_class: int, score_threshold: float
    ):
        """
        Args:
            cfg: Config of the detector; with an empty MODEL.WEIGHTS its weights are random.
            image_format: Format of the images that it is called with.
            person_class: Index of the class "person".
            score_threshold: Lowest score of a detection that counts.
        """
        self.cfg = cfg
        self.swaps_channels = image_format != cfg.INPUT.FORMAT
        self.person_class = person_class
        self.score_threshold = score_threshold
        self._model: torch.nn.Module | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PersonDetector":
        """Make the detector of MODEL.PERSON_DETECTOR.

        Raises:
            MissingFileError: CONFIG_FILE is neither a file nor in Detectron2's model zoo.
            InputError: WEIGHTS is empty.
        """
        node = cfg.MODEL.PERSON_DETECTOR
        path = PathManager.get_local_path(node.CONFIG_FILE)
        if not PathManager.isfile(path):
            path = PathManager.get_local_path(f"model_zoo://{node.CONFIG_FILE}")
        if not PathManager.isfile(path):
            raise MissingFileError(
                f"MODEL.PERSON_DETECTOR.CONFIG_FILE {node.CONFIG_FILE} is neither a file nor in "
                "Detectron2's model zoo"
            )
        if not node.WEIGHTS:
            raise InputError(
                "MODEL.PERSON_DETECTOR.WEIGHTS is empty, so people would be found at random: "
                "expected the weights of CONFIG_FILE"
            )
        detector = get_cfg()
        detector.merge_from_file(path)
        detector.MODEL.DEVICE = cfg.MODEL.DEVICE
        detector.MODEL.WEIGHTS = node.WEIGHTS
        return cls(
            detector,
            image_format=cfg.INPUT.FORMAT,
            person_class=node.PERSON_CLASS,
            score_threshold=node.SCORE_THRESH,
        )

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Instances:
        """Find people in an image (3, H, W), 0..255, as `given_people` returns them."""
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
        is_person = found.pred_classes == self.person_class
        found = found[is_person & (found.scores >= self.score_threshold)]
        return make_people((height, width), found.pred_boxes, found.scores)

    def _load(self) -> torch.nn.Module:
        model = build_model(self.cfg).eval()
        if self.cfg.MODEL.WEIGHTS:
            file = PathManager.get_local_path(self.cfg.MODEL.WEIGHTS)
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
