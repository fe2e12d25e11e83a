"""K-sparse (arXiv 1711.02974): experiments, claims of the abstract, and their verdicts."""
