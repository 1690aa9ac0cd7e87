"""Dialogue over a table of records: which records a response needs, learned from its generator."""
