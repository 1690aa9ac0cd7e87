"""Patterns that a recipe names: a text may take them some seconds, and no more.

user_pattern.py  UserPattern: what of `re` rewards need, with a limit of time
matching.py      the process that matches, and stops itself
"""

from wrpo.rewards.patterns.user_pattern import Found, UserPattern

__all__ = ["Found", "UserPattern"]
