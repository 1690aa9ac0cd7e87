"""Judged benchmarks in two steps: the answers of a model, then all judgements on them."""
