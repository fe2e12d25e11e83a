"""The view of K-sparse: choose eta or a number of genes, see cells and genes, and take the list along."""

from __future__ import annotations

import base64
import html
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import pandas as pd

from sparcl_lite.clustering import KSparse
from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.clustering.data.loaders import DATASETS, load
from sparcl_lite.clustering.scores import agreement, silhouette
from sparcl_lite.clustering.tuning import eta_for_genes
from sparcl_lite.explore.view import DRAWING, Drawn, Picture, View, message
from sparcl_lite.papers.ksparse.sizes import chosen_eta
from sparcl_lite.report.figures.clustering import selected_genes
from sparcl_lite.report.tables import Table

RESTARTS = 3
LISTED = 30  # genes that are shown; the file has all
ETA, GENES = "eta", "number of genes"
WIDE = {"layout": {"width": "32em"}, "style": {"description_width": "9.5em"}}


@lru_cache(maxsize=4)
def cells_of(dataset: str) -> Cells:
    """A bundled data set."""
    return load(dataset)


@lru_cache(maxsize=64)
def fitted(dataset: str, by: str, value: float) -> KSparse:
    """K-sparse with penalised centroids at an eta, or at the eta that selects about so many genes."""
    cells = cells_of(dataset)
    model = KSparse(cells.n_classes, centroids="identity-penalty", n_init=RESTARTS, random_state=0)
    if by == GENES:
        return eta_for_genes(model, cells.X, round(value))
    return model.set_params(eta=value).fit(cells.X)


def ranking(dataset: str, model: KSparse) -> pd.DataFrame:
    """The selected genes, the largest weight first: rank, gene, norm of its row of W, and its share of the l1 norm."""
    chosen, weights = model.selected_features_, np.abs(model.coef_).sum(axis=1)
    return pd.DataFrame(
        {
            "rank": np.arange(len(chosen)) + 1,
            "gene": cells_of(dataset).genes[chosen],
            "norm": np.linalg.norm(model.coef_[chosen], axis=1),
            "share": weights[chosen] / weights.sum(),
        }
    )


def summary(dataset: str, model: KSparse) -> str:
    """One line: genes, eta, and how well the clusters agree with the true classes."""
    cells = cells_of(dataset)
    scores, width = agreement(cells.labels, model.labels_), silhouette(model.transform(cells.X), model.labels_)
    eta = "free" if model.eta is None else f"{model.eta:.4g}"
    return (
        f"{len(model.selected_features_):,} of {cells.X.shape[1]:,} genes at eta {eta}; accuracy "
        f"{100 * scores['accuracy']:.1f} %, ARI {100 * scores['ari']:.1f} %, silhouette {width:.2f}"
    )


def download(frame: pd.DataFrame, name: str) -> str:
    """A link that saves a table as CSV, without a server."""
    data = base64.b64encode(frame.to_csv(index=False, float_format="%.6g").encode()).decode()
    name, look = html.escape(name), 'style="text-decoration:underline"'
    return f'<a {look} download="{name}" href="data:text/csv;base64,{data}">download {name}</a>'


class Genes(View):
    """K-sparse on a bundled data set, fitted anew in a thread whenever a slider is moved."""

    def __init__(self, dataset: str = "pbmc"):
        super().__init__()
        self.dataset = widgets.Dropdown(description="data set", options=list(DATASETS), value=dataset, **WIDE)
        self.by = widgets.ToggleButtons(options=[ETA, GENES], description="choose by", **WIDE)
        self.eta = widgets.FloatLogSlider(
            description=ETA, base=10, continuous_update=False, readout_format=".3g", **WIDE
        )
        self.count = widgets.IntSlider(description=GENES, min=2, continuous_update=False, **WIDE)
        self.said, self.figure = widgets.HTML(), Picture()
        self.genes = widgets.HTML(layout={"max_height": "20em", "overflow": "auto"})
        self.asked, self._thread = 0, ThreadPoolExecutor(1)
        self.model: KSparse | None = None
        self.dataset.observe(lambda _: self._dataset_chosen(), names="value")
        for field in (self.by, self.eta, self.count):
            field.observe(lambda _: self._changed(), names="value")
        self.widget = widgets.VBox([self.dataset, self.by, self.eta, self.count, self.said, self.figure, self.genes])
        with self.together(lambda: None):
            self._dataset_chosen()
        self._fit(self.asked)

    def _dataset_chosen(self) -> None:
        name = self.dataset.value
        eta, genes = chosen_eta(name, "released", "genes"), cells_of(name).X.shape[1]
        with self.together(self._changed):
            self.eta.max, self.eta.min = np.log10(eta) + 1.5, np.log10(eta) - 1.5
            self.eta.value, self.count.max, self.count.value = eta, genes, max(2, genes // 10)

    @property
    def what(self) -> tuple[str, str, float]:
        """Data set, what is chosen, and its value: the arguments of `fitted`."""
        return self.dataset.value, self.by.value, float((self.eta if self.by.value == ETA else self.count).value)

    def _changed(self) -> None:
        if self.changing:
            return
        self.eta.layout.display = None if self.by.value == ETA else "none"
        self.count.layout.display = None if self.by.value == GENES else "none"
        self.asked += 1
        if self.model is not None:  # else the first fit is made at once
            self.said.value = message("fitting ...")
            self._thread.submit(self._fit, self.asked)

    def _fit(self, number: int) -> None:
        if number != self.asked:  # the sliders have moved on
            return
        dataset, by, value = self.what
        self.model = fitted(dataset, by, value)
        frame = ranking(dataset, self.model)
        with DRAWING:
            self.figure.show(self.still())
        shown = Table(frame.head(LISTED).round(4), f"{min(LISTED, len(frame))} of {len(frame)} selected genes")
        self.genes.value = download(frame, f"{dataset}_genes.csv") + shown._repr_html_()
        self.said.value = message(summary(dataset, self.model))

    def still(self) -> Drawn:
        """The genes and the cells of the last fit."""
        cells = cells_of(self.dataset.value)
        words = f"K-sparse on {self.dataset.value}: heat map of the highest ranked genes, and the projected cells"
        return selected_genes(cells, self.model)[0], words
