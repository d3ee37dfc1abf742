"""Tests of ``multirun_analysis``."""
