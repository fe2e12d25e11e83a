"""LightCL: continual learning with a low memory footprint (Wang et al., ASP-DAC 2025, arXiv 2407.10545)."""
