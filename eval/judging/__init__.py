"""Benchmarks that a judge model scores: questions, prompts, protocols, statistics."""
