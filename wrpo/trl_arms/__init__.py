"""Arms that TRL's own trainers train: what they need of a run, and how they are made."""
