"""Choose K-sparse's eta for every data set without looking at labels, as its authors did.

    python tools/tune_ksparse.py [DATASET ...] > sparcl_lite/papers/ksparse/eta.csv

One line a fit: the path of eta in fractions of the l1 norm of an unconstrained W, the one of the best silhouette marked
`silhouette` in column `chosen`; and the one that bisection finds for 10 % of the genes, marked `genes`. Cells that are
simulated or drawn are those of a seed that no experiment uses.
"""

import sys

import pandas as pd

from sparcl_lite.clustering import KSparse, choose_eta, eta_for_genes, eta_path
from sparcl_lite.clustering.config import ClusteringConfig
from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.clustering.ksparse import AS_RELEASED
from sparcl_lite.runs.clustering import cells_of

DATASETS = ("khan", "nci60", "pbmc", "simulated", "zeisel", "cbmc")
TUNING_SEED = 1_000
SHARES = {"cbmc": 0.25}  # as in the experiments: eta grows with the number of cells
SHARE_OF_GENES = 0.1
CHEAP = {"n_init": 3, "max_iter": 4}  # enough to compare etas by
COLUMNS = ["dataset", "variant", "chosen", "eta", "features", "silhouette", "relative_criterion", "l1_norm", "active"]
VARIANTS = {"released": AS_RELEASED | CHEAP, "described": CHEAP}


def tuned(cells: Cells, variant: str) -> pd.DataFrame:
    """The path of one data set and variant, with the chosen fits marked."""
    estimator = KSparse(cells.n_classes, random_state=0, **VARIANTS[variant])
    path = eta_path(estimator, cells.X)
    path["chosen"] = ["silhouette" if eta == choose_eta(path) else "" for eta in path["eta"]]
    wanted = round(SHARE_OF_GENES * cells.X.shape[1])
    few = eta_path(estimator, cells.X, [eta_for_genes(estimator, cells.X, wanted).eta]).assign(chosen="genes")
    table = pd.concat([path, few]) if variant == "released" else path
    return table.assign(dataset=cells.name, variant=variant)


def main() -> None:
    tables = []
    for name in sys.argv[1:] or DATASETS:
        cells = cells_of(ClusteringConfig(dataset=name, method="k-sparse", seed=TUNING_SEED, share=SHARES.get(name, 1)))
        for variant in VARIANTS:
            tables.append(tuned(cells, variant))
            print(tables[-1].to_string(), file=sys.stderr)
    pd.concat(tables)[COLUMNS].to_csv(sys.stdout, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
