"""Package metadata. Detectron2 is not on PyPI, so the package checks for it when imported."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "metaprompt_d2/__init__.py").read_text())[1]
PAPER = "https://arxiv.org/abs/2312.14733"

# datasets/prepare_nyu_depth_v2.py reads MATLAB files with these.
NYU = ["h5py>=3", "scipy>=1.11"]
# tools/web_demo.py; its test drives Chromium with playwright.
WEB = ["gradio>=6,<7"]
# MODEL.DIFFUSION.LORA.
LORA = ["peft>=0.17"]
# Mask2FormerHead.
MASK2FORMER = ["transformers>=5.0,<6", "scipy>=1.11"]
# tools/export_model.py writes ONNX files, then runs them to check them.
EXPORT = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]
# make fuzz
FUZZ = ["atheris>=3"]
# Panoptic quality; it is github.com/cocodataset/panopticapi.
PANOPTIC = ["panopticapi-lite>=0.2"]
# Crops of masks that are polygons, and Cityscapes' polygons.
POLYGONS = ["shapely>=2"]
# Detectron2's ViT.
VIT = ["timm>=0.9"]

setup(
    name="metaprompt_d2",
    version=VERSION,
    description="Stable Diffusion's UNet with meta prompts as a Detectron2 backbone",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The metaprompt_d2 authors",
    url=PAPER,
    project_urls={
        "Paper": PAPER,
        "Official code": "https://github.com/fudan-zvg/meta-prompts",
    },
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "detectron2",
        "stable diffusion",
        "meta prompts",
        "semantic segmentation",
        "depth estimation",
        "pose estimation",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["metaprompt_d2", "metaprompt_d2.*"]),
        "metaprompt_d2.configs",
    ],
    package_dir={"metaprompt_d2.configs": "configs"},
    package_data={
        "metaprompt_d2": ["py.typed", "data/datasets/*.json"],
        "metaprompt_d2.configs": ["**/*.yaml", "**/*.json", "**/*.safetensors", "lazy/**/*.py"],
    },
    install_requires=[
        "torch>=2.10",  # CVE-2026-24747: memory corruption in the reader of checkpoints
        "torchvision>=0.25",
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
        # opencv-python works too: both provide the module cv2.
        "opencv-python-headless>=4.8,<5",
        "numpy>=1.26,<2.4",  # cityscapesscripts uses np.in1d, which NumPy 2.4 removed
        "pillow>=10,<13",  # cityscapesscripts writes 16-bit PNGs in a way that 13 refuses
        "matplotlib>=3.7",
        "tqdm",
        "setuptools<82",  # Detectron2's model_zoo imports pkg_resources
    ],
    extras_require={
        "export": EXPORT,
        "fuzz": FUZZ,
        "nyu": NYU,
        "panoptic": PANOPTIC,
        "polygons": POLYGONS,
        "vit": VIT,
        "web": WEB,
        "lora": LORA,
        "mask2former": MASK2FORMER,
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "hypothesis>=6",
            "mypy>=1.11",
            "ruff>=0.6",
            "types-PyYAML",
            "types-tabulate",
            "playwright>=1.40",
            *EXPORT,
            *LORA,
            *MASK2FORMER,
            *NYU,
            *PANOPTIC,
            *VIT,
            *WEB,
        ],
    },
)
