"""The pictures and captions that the page shows of one image."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from metaprompt_d2 import Predictor
from metaprompt_d2.data.readers import read_image
from metaprompt_d2.inference.prompt_responses import (
    Association,
    associate_prompts,
    look_inside,
    select_prompts,
)
from metaprompt_d2.visualization import draw_change, draw_overlay, draw_response, response_range

from .sizes import LEAST_SIDE, enlarge, shrink

__all__ = ["VIEWS", "Look"]

VIEWS = ("Prediction", "Prompt", "Change", "Image")
_THUMBNAIL = 160  # pixels wide
_LEAST_SHARE = 0.005  # of the image; smaller classes are left out of the legend


class Look:
    """Run a model on one image and draw its responses. Steps count from 1, prompts from 0.

    The image is shrunk to a megapixel. Kept are pictures and responses, not the model's outputs.
    """

    def __init__(self, predictor: Predictor, file: str, boxes: Sequence[Sequence[float]] = ()):
        """
        Args:
            predictor: Predictor of the model.
            file: The image.
            boxes: What to pose: corners x0, y0, x1, y1 in pixels of the file, and the index of the
                category. Without boxes the model finds them, if it poses what is in boxes.
        """
        original = read_image(file, "RGB")
        image = shrink(original)
        x, y = image.shape[1] / original.shape[1], image.shape[0] / original.shape[0]
        scaled = np.array(boxes) * [x, y, x, y, 1] if boxes else None
        trace = look_inside(predictor, np.ascontiguousarray(image[..., ::-1]), boxes=scaled)
        self.metadata = predictor.metadata
        scale = max(1, LEAST_SIDE // max(image.shape[:2]))
        self.overlays = [
            enlarge(draw_overlay(image, step.output, self.metadata, scale=scale))
            for step in trace.steps
        ]
        self.maps = {
            feature: [step.responses[feature].numpy() for step in trace.steps]
            for feature in trace.steps[0].responses
        }
        self.image = enlarge(trace.image)
        count = len(trace.steps[0].output.get("instances", ()))
        self._whose = f" This is the first of {count} boxes." if count > 1 else ""
        self._legends = [self._legend(step.output) for step in trace.steps]
        self._found = {
            feature: [
                associate_prompts(step, self.metadata, feature=feature) for step in trace.steps
            ]
            for feature in self.maps
        }

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays."""
        arrays = [self.image, *self.overlays, *(m for maps in self.maps.values() for m in maps)]
        return sum(array.nbytes for array in arrays)

    @property
    def features(self) -> list[str]:
        return list(self.maps)

    @property
    def num_steps(self) -> int:
        return len(self.overlays)

    @property
    def num_prompts(self) -> int:
        return len(self.maps[self.features[0]][0])

    def best_prompt(self) -> int:
        """Return the most selective prompt at the last step."""
        return select_prompts(self._associate(self.features[0], self.num_steps), 1)[0]

    def picture(self, view: str, step: int, prompt: int, feature: str) -> np.ndarray:
        """Draw one of `VIEWS` as (H, W, 3) uint8 RGB."""
        maps = self.maps[feature]
        if view == "Prediction":
            return self.overlays[step - 1]
        if view == "Prompt":
            limits = response_range([step_maps[prompt] for step_maps in maps])
            return draw_response(self.image, maps[step - 1][prompt], limits)
        if view == "Change":
            return draw_change(self.image, maps[max(step - 2, 0)], maps[step - 1])
        return self.image

    def caption(self, view: str, step: int, prompt: int, feature: str) -> str:
        """Describe a view in HTML."""
        if view == "Prediction":
            return f"What the head makes of step {step}. {self._legends[step - 1]}"
        if view == "Prompt":
            found = self._associate(feature, step)[prompt]
            return (
                f"Prompt {prompt} at step {step}: follows <b>{found.name}</b>, correlation "
                f"{found.correlation:+.2f}. Bright is high; colors are the same for all steps."
                f"{self._whose}"
            )
        if view == "Change":
            changed = f"Where step {step} changed the responses." if step > 1 else "No step before."
            return changed + self._whose
        return f"What the model sees.{self._whose}"

    def thumbnails(self, step: int, feature: str) -> list[tuple[np.ndarray, str]]:
        """Draw every prompt's response in small, with what it follows."""
        height, width = self.image.shape[:2]
        small = cv2.resize(self.image, (_THUMBNAIL, max(1, height * _THUMBNAIL // width)))
        found = self._associate(feature, step)
        return [
            (draw_response(small, response), f"{number}: {item.name} {item.correlation:+.2f}")
            for number, (response, item) in enumerate(
                zip(self.maps[feature][step - 1], found, strict=True)
            )
        ]

    def _associate(self, feature: str, step: int) -> list[Association]:
        return self._found[feature][step - 1]

    def _legend(self, output: dict[str, Any]) -> str:
        if "depth" in output:
            return f"Bright is near, dark is {self.metadata.max_depth:g} m."
        colors = self.metadata.get("stuff_colors", None)
        if "sem_seg" not in output or not colors:
            return ""
        labels = output["sem_seg"].argmax(dim=0).flatten().bincount(minlength=len(colors))
        shares = labels / labels.sum()
        return " ".join(
            f'<span class="class" style="border-color: rgb{tuple(color)}">{name}</span>'
            for name, color, share in zip(
                self.metadata.stuff_classes, colors, shares.tolist(), strict=True
            )
            if share >= _LEAST_SHARE
        )
