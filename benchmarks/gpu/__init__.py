"""What the toolkit is worth on a GPU, by one command: exactness, steps, trainers, scoring."""
