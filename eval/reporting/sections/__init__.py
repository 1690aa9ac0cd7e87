"""The sections of a report, each a list of blocks: one module per section."""
