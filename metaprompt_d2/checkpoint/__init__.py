"""Read and write the weights of other codes, safely and with a report."""

from .official import OfficialWeights, from_official, is_official, task_of, to_official
from .official_config import config_of_official
from .report import LoadReport
from .stable_diffusion import diffusion_sizes, load_diffusion_weights
from .tensor_files import TensorFileError, find_state_dict, load_checkpoint, non_finite

__all__ = [
    "LoadReport",
    "OfficialWeights",
    "TensorFileError",
    "config_of_official",
    "diffusion_sizes",
    "find_state_dict",
    "from_official",
    "is_official",
    "load_checkpoint",
    "load_diffusion_weights",
    "non_finite",
    "task_of",
    "to_official",
]
