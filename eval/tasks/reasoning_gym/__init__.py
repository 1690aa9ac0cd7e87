"""Families of tasks of the package reasoning-gym, made when they are read."""
