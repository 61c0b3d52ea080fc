"""Errors, precision and files: helpers of every other room."""
