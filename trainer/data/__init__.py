"""Data sets: made, written, read and checked without loading TensorFlow. Command line: `python -m trainer.data`."""
