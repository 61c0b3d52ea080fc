"""Read and write the weights of other codes, safely and with a report."""

from .averages import AVERAGES, use_averages
from .matching import find_misfits, match_weights, read_weights
from .names import match_names, unwrap
from .official import OfficialWeights, from_official, is_official, task_of, to_official
from .official_config import config_of_official
from .report import LoadReport
from .stable_diffusion import diffusion_sizes, load_diffusion_weights
from .tensor_files import (
    TensorFileError,
    find_state_dict,
    load_checkpoint,
    non_finite,
    write_checkpoint,
    write_zoo_file,
)

__all__ = [
    "AVERAGES",
    "LoadReport",
    "OfficialWeights",
    "TensorFileError",
    "config_of_official",
    "diffusion_sizes",
    "find_misfits",
    "find_state_dict",
    "from_official",
    "is_official",
    "load_checkpoint",
    "load_diffusion_weights",
    "match_names",
    "match_weights",
    "non_finite",
    "read_weights",
    "task_of",
    "to_official",
    "unwrap",
    "use_averages",
    "write_checkpoint",
    "write_zoo_file",
]
