"""Pictures of predictions beside the ground truth."""

from .depth import compare_depth
from .ground_truth import draw_ground_truth
from .layout import stack_rows
from .overlay import draw_overlay
from .pose import annotated_people, compare_people
from .sem_seg import compare_sem_seg

__all__ = [
    "annotated_people",
    "compare_depth",
    "compare_people",
    "compare_sem_seg",
    "draw_ground_truth",
    "draw_overlay",
    "stack_rows",
]
