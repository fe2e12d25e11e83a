"""LightCL's experiments by name; each takes the profile, the data set and what else its runs share."""

from sparcl_lite.papers.lightcl.generalizability import generalizability
from sparcl_lite.papers.lightcl.tables import ablation, table1

EXPERIMENTS = {
    "lightcl_table1": table1,
    "lightcl_ablation": ablation,
    "lightcl_generalizability": generalizability,
}
