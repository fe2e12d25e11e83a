"""The command for somebody's own cells: cluster."""

from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder

app = typer.Typer()

NUMBER = 'a number, or "auto"'


@app.command()
def cluster(
    cells: Annotated[Path, typer.Argument(help=".h5ad, .csv[.gz], .tsv[.gz] (cells by genes), or a 10x folder")],
    out: Annotated[Path, typer.Option(help="folder for the results", callback=folder)] = Path("result"),
    clusters: Annotated[str, typer.Option(help=f"{NUMBER}: as many as two halves of the cells agree on")] = "auto",
    genes: Annotated[str, typer.Option(help=f"genes to select: {NUMBER}: a tenth, and at least 50")] = "auto",
    layer: Annotated[str | None, typer.Option(help="of an .h5ad file, or raw")] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="the table has genes by cells")] = False,
    normalise: Annotated[str, typer.Option(help="yes, no, or auto: what looks like counts")] = "auto",
    top_genes: Annotated[int, typer.Option(min=0, help="highly variable genes that are clustered; 0: all")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
) -> None:
    """Cluster your own cells by K-sparse and name the genes that separate them.

    Writes labels.csv, genes.csv, embedding.csv, figure.png and report.html.

    Example: sparcl-lite cluster cells.h5ad --clusters auto --genes 50 --out result/
    """
    wanted = {"n_clusters": _number("clusters", clusters), "n_genes": _number("genes", genes)}
    from sparcl_lite.clustering.analysis import analyse
    from sparcl_lite.clustering.files import read_cells
    from sparcl_lite.report.cells import summary, write

    found = analyse(
        read_cells(cells, layer=layer, transpose=transpose), **wanted, normalise=normalise, top_genes=top_genes,
        random_state=seed, n_jobs=threads, verbose=True,
    )  # fmt: skip
    try:
        page = write(found, out)
    except OSError as error:
        raise KitError(f"out = {out}: cannot be written ({error.strerror or error})") from None
    print(*found.steps, sep="\n")
    print(summary(found))
    print(f"labels.csv, genes.csv, embedding.csv, figure.png and {page.name} are in {out}")


def _number(name: str, text: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise KitError(f"{name} = {text!r}: allowed: {NUMBER}")
