"""Formats of training rows: one file per toolkit or paper, found by its name or by its columns."""
