"""Weights in: diffusion models of others, and safe reading of files."""

from .diffusers_folder import load_diffusion_weights
from .official import from_official_sem_seg, is_official_sem_seg
from .restricted_pickle import load_pickled_arrays

__all__ = [
    "from_official_sem_seg",
    "is_official_sem_seg",
    "load_diffusion_weights",
    "load_pickled_arrays",
]
