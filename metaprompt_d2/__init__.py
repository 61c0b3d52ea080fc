"""Stable Diffusion's UNet, steered by meta prompts, as a Detectron2 backbone.

Importing this package fills Detectron2's registries and registers the datasets.
"""

from .utils.openmp import set_wait_policy

try:
    set_wait_policy()  # before torch is imported
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "metaprompt_d2 needs Detectron2, which has no release on PyPI. In a checkout of "
        "metaprompt_d2 run `python tools/install_detectron2.py`, or follow Detectron2's INSTALL.md",
        name="detectron2",
    ) from error

from . import data, modeling
from .config import add_metaprompt_config
from .inference import Predictor
from .model_zoo import build_model, get_config

__all__ = [
    "Predictor",
    "__version__",
    "add_metaprompt_config",
    "build_model",
    "data",
    "get_config",
    "modeling",
]

__version__ = "0.1.0"
