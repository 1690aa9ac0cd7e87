"""Checks of the form of a response.

scripts.py  words, characters and keywords in the scripts of the world
checks.py   each check, and which of them contradict each other
"""
