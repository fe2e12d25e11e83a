"""CLFD's experiments by name; each takes the profile, the data set and what else its runs share."""

from sparcl_lite.papers.clfd.frontier import frontier
from sparcl_lite.papers.clfd.tables import ablation, tables

EXPERIMENTS = {"clfd_tables": tables, "clfd_ablation": ablation, "frontier": frontier}
