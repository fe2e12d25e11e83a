"""What the reproduced papers say: reference values, and per paper its experiments and claims."""
