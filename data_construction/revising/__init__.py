"""Revision of responses by a model."""
