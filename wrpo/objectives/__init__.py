"""Objectives of preference training: one file each, found by name.

base.py       what an objective is, and what several share
options.py    names, schedules and rules of their options
reference.py  columns of log-probs under the reference
"""
