"""Benchmarks that a judge model scores: one file per benchmark, found by its name."""
