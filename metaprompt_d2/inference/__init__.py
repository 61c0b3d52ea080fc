"""Wrappers that have a model's call signature and predict better, or elsewhere."""

from .test_time_augmentation import DenseModelWithTTA, with_test_time_augmentation

__all__ = ["DenseModelWithTTA", "with_test_time_augmentation"]
