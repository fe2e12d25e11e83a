"""CLFD: continual learning in the frequency domain (Liu et al., NeurIPS 2024)."""
