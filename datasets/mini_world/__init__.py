"""The synthetic street world behind `datasets/make_mini.py`: geometry, drawing and file formats."""
