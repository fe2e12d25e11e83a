"""K-sparse: clustering with feature selection using alternating minimization (Gilet et al., arXiv 1711.02974)."""
