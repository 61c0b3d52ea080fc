"""Config keys of other projects, which every tool knows once they are registered."""

from detectron2.config import CfgNode, get_cfg
from detectron2.utils.registry import Registry

from .defaults import add_metaprompt_config

CONFIG_KEYS_REGISTRY = Registry("CONFIG_KEYS")
CONFIG_KEYS_REGISTRY.__doc__ = """
Functions that add a project's keys to a Detectron2 config, in place: `add_keys(cfg)`.

`default_config` calls all of them. To reach every tool and every process, register them in the
`setup_environment` of the file that DETECTRON2_ENV_MODULE names (docs/compose.md).
"""


def default_config() -> CfgNode:
    """Return the keys of Detectron2, of registered projects and of this package, at defaults."""
    cfg = get_cfg()
    for _, add_keys in CONFIG_KEYS_REGISTRY:
        add_keys(cfg)
    add_metaprompt_config(cfg)
    return cfg
