"""Cells to cluster: data sets that ship with the package, and a simulator that knows which genes differ."""
