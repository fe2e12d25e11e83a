"""SparCL: Sparse Continual Learning on the Edge (Wang et al., NeurIPS 2022, arXiv 2209.09476)."""
