"""SparCL's experiments by name; each takes the profile, the data set and what else its runs share."""

from sparcl_lite.papers.sparcl.studies import confounders, engines, removal, sensitivity
from sparcl_lite.papers.sparcl.tables import table1, table2, table3

EXPERIMENTS = {
    "sparcl_table1": table1,
    "sparcl_table2": table2,
    "sparcl_table3": table3,
    "sparcl_fig3": removal,
    "sparcl_sensitivity": sensitivity,
    "sparcl_confounders": confounders,
    "sparcl_engines": engines,
}
