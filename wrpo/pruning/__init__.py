"""Makes a model smaller by removing blocks that its predictions need least."""
