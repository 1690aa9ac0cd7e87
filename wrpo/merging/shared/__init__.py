"""What several ways to merge use."""
