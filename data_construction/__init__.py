"""Stages that make data: prompts, responses, scores, training rows, log-probs."""

import wrpo  # noqa: F401  sees to Ctrl-C while a command is still being imported
