"""The files that an analysis of somebody's cells leaves: tables, a figure, and a page that explains them."""

import base64
import html
from pathlib import Path

import numpy as np

from sparcl_lite.clustering.analysis import Analysis
from sparcl_lite.clustering.scores import silhouette
from sparcl_lite.drawing import save, use_style
from sparcl_lite.report.figures.clustering import selected_genes
from sparcl_lite.report.tables import Table

LISTED = 50  # genes on the page; all are in genes.csv
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px } caption { text-align: left; color: #666; padding: .4rem 0 }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left } img { max-width: 100% }"""
READ = (
    "A gene of a large weight separates the clusters from each other; it need not be the mark of one. "
    "Means are those of the values that were clustered. Clusters are always found, also where there are none: look "
    "whether known marker genes agree with them."
)


def write(analysis: Analysis, folder: Path) -> Path:
    """Write labels.csv, genes.csv, embedding.csv, figure.pdf, .png and .csv, and the page report.html: its path."""
    folder.mkdir(parents=True, exist_ok=True)
    analysis.labels().to_csv(folder / "labels.csv", index=False)
    analysis.genes().to_csv(folder / "genes.csv", index=False, float_format="%.6g")
    analysis.embedding().to_csv(folder / "embedding.csv", index=False, float_format="%.6g")
    use_style()
    figure, points = selected_genes(analysis.cells, analysis.model, clusters=analysis.clusters)
    save(figure, points, folder, "figure")
    page = folder / "report.html"
    page.write_text(_page(analysis, (folder / "figure.png").read_bytes()), encoding="utf-8")
    return page


def summary(analysis: Analysis) -> str:
    """What was clustered, and what came out, in one line."""
    m, d = analysis.cells.X.shape
    model, genes = analysis.model, analysis.genes()["gene"]
    chosen = ", which two halves of the cells agree on" if model.n_clusters == "auto" else ""
    single = int((np.bincount(analysis.clusters) == 1).sum())
    told = f" ({single} of a single cell: ask for fewer, or for more genes)" if single else ""
    return (
        f"{m:,} cells, {d:,} genes: {model.n_clusters_} clusters{chosen}{told}; {len(genes)} genes, "
        f"first {', '.join(genes[:5])}"
    )


def _page(analysis: Analysis, picture: bytes) -> str:
    model, name = analysis.model, html.escape(analysis.cells.name)
    sizes = analysis.labels()["cluster"].value_counts(sort=False).sort_index().rename("cells").reset_index()
    genes = analysis.genes()
    value = silhouette(model.transform(analysis.cells.X), analysis.clusters)
    told = "undefined" if value is None else f"{value:.2f} (-1 to 1; 1: far apart)"
    options = {name: value for name, value in model.get_params().items() if value is not None}
    settings = ", ".join(f"{name}={value!r}" for name, value in options.items())
    listed = genes.head(LISTED)
    numbers = listed.select_dtypes("float").map("{:.3g}".format)
    shown = Table(listed.assign(**numbers), f"The first {min(LISTED, len(genes))} of {len(genes)}; all in genes.csv")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>K-sparse: {name}</title><style>{STYLE}</style></head><body>
<h1>K-sparse: {name}</h1>
<p>{html.escape(summary(analysis))}.</p>
<p>{html.escape(" ".join(analysis.steps))}</p>
<img alt="Heat map of the highest ranked genes, and the projected cells"
src="data:image/png;base64,{base64.b64encode(picture).decode()}">
<h2>Clusters</h2>
<p>Mean silhouette in the projection: {told}.</p>
{Table(sizes)._repr_html_()}
<h2>Genes</h2>
<p>{READ}</p>
{shown._repr_html_()}
<p>KSparse({html.escape(settings)})</p>
</body></html>
"""
