"""What is computed, kept and found again: jobs of every kind, the store of their results, `run` and `sweep`."""
