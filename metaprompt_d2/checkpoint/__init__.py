"""Read and write the weights of other codes, safely and with a report."""

from .averages import AVERAGES, use_averages
from .mask2former import MASK2FORMER_LAYOUTS, from_mask2former, mask2former_layout, to_mask2former
from .mask2former_config import config_of_mask2former
from .matching import find_misfits, match_weights, read_weights
from .names import match_names, unwrap
from .official import OfficialWeights, from_official, is_official, task_of, to_official
from .official_config import config_of_official
from .report import LoadReport
from .stable_diffusion import diffusion_sizes, load_diffusion_weights
from .tensor_files import (
    TensorFileError,
    find_state_dict,
    find_weights,
    load_checkpoint,
    non_finite,
    write_checkpoint,
    write_safetensors,
    write_zoo_file,
)

__all__ = [
    "AVERAGES",
    "MASK2FORMER_LAYOUTS",
    "LoadReport",
    "OfficialWeights",
    "TensorFileError",
    "config_of_mask2former",
    "config_of_official",
    "diffusion_sizes",
    "find_misfits",
    "find_state_dict",
    "find_weights",
    "from_mask2former",
    "from_official",
    "is_official",
    "load_checkpoint",
    "load_diffusion_weights",
    "mask2former_layout",
    "match_names",
    "match_weights",
    "non_finite",
    "read_weights",
    "task_of",
    "to_mask2former",
    "to_official",
    "unwrap",
    "use_averages",
    "write_checkpoint",
    "write_safetensors",
    "write_zoo_file",
]
