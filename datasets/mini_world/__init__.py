"""The synthetic world behind `datasets/make_mini.py`: geometry, drawing and file formats."""
