"""Config keys: defaults, checks, and files."""

from .checks import check_combinations, check_config, check_registered_parts
from .defaults import add_metaprompt_config
from .files import CONFIG_ROOT, read_config_file, recipe_names

__all__ = [
    "CONFIG_ROOT",
    "add_metaprompt_config",
    "check_combinations",
    "check_config",
    "check_registered_parts",
    "read_config_file",
    "recipe_names",
]
