"""What is measured of a run, and what may be concluded from several: accuracy, cost, memory, statistics."""
