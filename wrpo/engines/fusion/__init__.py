"""Several models that write one response together, without training (Cool-Fusion, 2407.19807)."""
