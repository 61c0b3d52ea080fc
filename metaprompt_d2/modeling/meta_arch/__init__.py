"""Meta-architectures: Detectron2's batched inputs in, losses or predictions out."""
