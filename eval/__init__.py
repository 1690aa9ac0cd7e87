"""Stages that measure models: benchmarks of lm-eval, judged benchmarks, the report."""

import wrpo  # noqa: F401  sees to Ctrl-C while a command is still being imported
