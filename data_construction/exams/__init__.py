"""Exams that a judge makes of training rows, and that the target sits."""
