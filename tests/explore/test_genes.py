"""The view of K-sparse: sliders decide the fit, and the list that is downloaded is what the fit selects."""

import base64
import io
import re

import pandas as pd
import pytest

from sparcl_lite.explore.genes import GENES, Genes, cells_of, fitted, ranking


@pytest.fixture(scope="module")
def view():
    return Genes("pbmc")


def settled(view):
    """Wait for the fits that were asked for."""
    view._thread.submit(lambda: None).result(timeout=120)


def test_more_eta_selects_more_genes_and_the_list_follows(view):
    few = len(view.model.selected_features_)
    view.eta.value *= 4
    settled(view)
    assert len(view.model.selected_features_) > few
    assert view.said.value.count(f"{len(view.model.selected_features_)} of 765 genes") == 1


def test_the_downloaded_list_is_the_ranking(view):
    settled(view)
    name, data = re.search(r'download="(.*?)" href="data:text/csv;base64,(.*?)"', view.genes.value).groups()
    assert name == "pbmc_genes.csv"
    given = pd.read_csv(io.BytesIO(base64.b64decode(data)))
    model = view.model
    assert given["gene"].tolist() == cells_of("pbmc").genes[model.selected_features_].tolist()
    assert given["norm"].is_monotonic_decreasing
    assert ranking("pbmc", model)["share"].sum() == pytest.approx(1)


@pytest.mark.slow
def test_another_data_set_is_fitted_with_an_eta_of_its_own(view):
    view.dataset.value = "khan"
    settled(view)
    assert view.model.coef_.shape[0] == 2308
    assert view.count.max == 2308
    assert "khan_genes.csv" in view.genes.value


@pytest.mark.slow
def test_a_number_of_genes_can_be_chosen(view):
    view.dataset.value = "khan"  # fits of 83 samples are quick, and ten are needed
    view.by.value = GENES
    view.count.value = 40
    settled(view)
    assert len(view.model.selected_features_) == pytest.approx(40, abs=3)
    assert fitted(*view.what) is view.model
    assert view.eta.layout.display == "none"
