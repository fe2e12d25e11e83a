"""Benchmarks of training on this machine: where a step's time goes, and what sparsity saves of time and memory."""
