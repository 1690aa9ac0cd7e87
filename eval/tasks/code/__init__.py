"""Programs that models write, run in the sandbox."""
