"""Prompts by exploration: a tree of sub-tasks, and prompts of each."""
