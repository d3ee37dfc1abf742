"""Frames to numbers: means over seeds, paired contrasts, their intervals and tests."""
