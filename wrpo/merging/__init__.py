"""Ways to merge models of one shape: one file per method, found by its name."""
