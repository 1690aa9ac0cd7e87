"""Multiple choice with a chain of thought."""
