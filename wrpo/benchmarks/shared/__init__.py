"""What several judged benchmarks use: published files, questions, judge prompts, records."""
