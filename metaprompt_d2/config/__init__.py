"""Config keys: defaults, checks, and files."""

from .checks import check_combinations, check_config, check_registered_parts
from .defaults import add_metaprompt_config
from .files import CONFIG_ROOT, read_config_file, recipe_names
from .lazy_files import read_lazy_config
from .projects import CONFIG_KEYS_REGISTRY, default_config

__all__ = [
    "CONFIG_KEYS_REGISTRY",
    "CONFIG_ROOT",
    "add_metaprompt_config",
    "check_combinations",
    "check_config",
    "check_registered_parts",
    "default_config",
    "read_config_file",
    "read_lazy_config",
    "recipe_names",
]
