"""Weights in: diffusion models of others, and safe reading of files."""

from .diffusers_folder import load_diffusion_weights
from .restricted_pickle import load_pickled_arrays

__all__ = ["load_diffusion_weights", "load_pickled_arrays"]
