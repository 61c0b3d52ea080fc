"""A small Stable Diffusion model and its training, for `pretrain_mini_diffusion.py`."""
