"""Package metadata. Detectron2, which PyPI does not have, is checked for at import time."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "metaprompt_d2/__init__.py").read_text())[1]
# What datasets/prepare_nyu_depth_v2.py reads MATLAB's files with.
NYU = ["h5py>=3", "scipy>=1.11"]
# What tools/web_demo.py serves its page with; its test drives Chromium by playwright.
WEB = ["gradio>=6,<7"]
# What MODEL.DIFFUSION.LORA needs.
LORA = ["peft>=0.17"]
# What tools/export_model.py writes ONNX with, and runs it with to check it.
EXPORT = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]
# What Detectron2's ViT imports.
VIT = ["timm>=0.9"]

setup(
    name="metaprompt_d2",
    version=VERSION,
    description="Stable Diffusion's UNet with meta prompts as a Detectron2 backbone",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["metaprompt_d2", "metaprompt_d2.*"]),
        "metaprompt_d2.configs",
    ],
    package_dir={"metaprompt_d2.configs": "configs"},
    package_data={
        "metaprompt_d2.configs": ["**/*.yaml", "**/*.json", "**/*.safetensors", "lazy/**/*.py"]
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "diffusers>=0.35,<0.43",
        "safetensors>=0.4",
        "fvcore>=0.1.5",
        "iopath>=0.1.9",
        "omegaconf>=2.1",
        "hydra-core>=1.1",
        "cloudpickle",
        "tabulate",
        "termcolor>=1.1",
        "tensorboard",
        "pycocotools>=2.0.6",
        "cityscapesscripts>=2.2",
        # Its twin opencv-python serves as well; both bring the module cv2.
        "opencv-python-headless>=4.8,<4.12",
        "numpy>=1.26,<2",  # Detectron2's SemSegEvaluator
        "pillow>=10,<13",  # 13 cannot write 16-bit PNGs the way cityscapesscripts does
        "matplotlib>=3.7",
        "tqdm",
        "setuptools<82",  # Detectron2's model_zoo imports pkg_resources
    ],
    extras_require={
        "export": EXPORT,
        "nyu": NYU,
        "vit": VIT,
        "web": WEB,
        "lora": LORA,
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6",
            "mypy>=1.11",
            "ruff>=0.6",
            "types-PyYAML",
            "types-tabulate",
            "playwright>=1.40",
            *EXPORT,
            *LORA,
            *NYU,
            *VIT,
            *WEB,
        ],
    },
)
