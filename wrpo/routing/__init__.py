"""Which sources a prompt is sent to, learned from scores of an earlier run."""
