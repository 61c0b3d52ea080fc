"""Draw predictions, ground truth, and what happens inside a model."""

from .depth import compare_depth
from .ground_truth import draw_ground_truth
from .layout import stack_rows
from .overlay import draw_overlay
from .pose import annotated_people, compare_people, confident
from .prompt_responses import draw_change, draw_prompts, draw_response, draw_table, response_range
from .segments import compare_segments, draw_segments
from .sem_seg import compare_sem_seg

__all__ = [
    "annotated_people",
    "compare_depth",
    "compare_people",
    "compare_segments",
    "compare_sem_seg",
    "confident",
    "draw_change",
    "draw_ground_truth",
    "draw_overlay",
    "draw_prompts",
    "draw_response",
    "draw_segments",
    "draw_table",
    "response_range",
    "stack_rows",
]
