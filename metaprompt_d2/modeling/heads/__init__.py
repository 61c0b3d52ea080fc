"""Prediction heads and their registries."""
