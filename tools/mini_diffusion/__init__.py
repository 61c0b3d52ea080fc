"""A Stable Diffusion in the small and its training, for `pretrain_mini_diffusion.py`."""
