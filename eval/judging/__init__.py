"""Judged benchmarks in two steps: the responses of a model, then all judgements on them."""
