"""Simulated single-cell counts with known clusters and known differential genes.

The recipe is that of the package SCsim with the parameters of the K-sparse authors' own files, read off their gene
names, in its main lines: see docs/ksparse.md for what is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from sparcl_lite.clustering.data.cells import Cells

SHARES = (0.3, 0.4, 0.2, 0.1)  # of cells in each cluster
DIFFERENTIAL = (0.10, 0.06, 0.12, 0.08)  # of genes that differ in each cluster
UP = (0.7, 0.5, 0.4, 0.6)  # of a cluster's differential genes that are higher there
WHOLE = (0.8, 0.7, 0.7, 0.8)  # of them that differ in all of its cells; the others differ in 75 % (DM)
MIXED = 0.75
BASE_SHAPE, BASE_RATE = 2.0, 0.75  # Gamma distribution of a gene's mean count
SIZE_SPREAD = 0.25  # of a cell's size factor, |N(1, .25)|
FOLD_MEAN, FOLD_SIZE = 12.0, {1: 24.0, -1: 26.0}  # negative binomial of ten times the log2 fold change
COUNT_SIZE = 50.0  # negative binomial of a count
DROPOUT, DROPOUT_SPREAD = 0.80, 0.05  # share of zeros of a cell
DROP_DECAY = 0.4  # how fast a gene's chance of being dropped falls with its mean count
BLOCK = 5_000  # cells drawn at a time
DISTINCT, KEPT = 50_000, 0.8  # cells drawn gene by gene, and the chance of a count to stay in the further ones


@dataclass(frozen=True)
class Genes:
    """What is fixed before cells are drawn: mean counts (d,), log2 fold changes (d, 4), genes that differ in part."""

    base: np.ndarray
    fold: np.ndarray
    mixed: np.ndarray

    @property
    def differential(self) -> np.ndarray:
        """Which genes differ between clusters, (d,)."""
        return self.fold.any(axis=1)


def simulate(
    n_cells: int = 600,
    n_genes: int = 10_000,
    *,
    seed: int = 0,
    dropout: float = DROPOUT,
    captured: float = 1.0,
    as_sparse: bool = False,
) -> Cells:
    """Counts of `n_cells` in 4 clusters (30, 40, 20, 10 %), 36 % of the genes differential; `truth` tells which.

    `captured` is the share of the molecules that are counted: with 0.03 and no dropout the zeros are those of low
    counts, as in experiments that count molecules (UMI). Dense (m, d) single precision, or CSR drawn block by block, so
    that only the nonzero counts are ever held. Of more than 50,000 sparse cells the further ones are those again, in
    random order, with every count thinned anew. Raises ValueError on fewer than 20 cells or 50 genes, on a dropout
    outside 0 to 1, and where nothing or more than everything is captured.
    """
    if n_cells < 20 or n_genes < 50 or not 0 <= dropout < 1 or not 0 < captured <= 1:
        raise ValueError(
            f"n_cells, n_genes, dropout, captured: got {n_cells}, {n_genes}, {dropout}, {captured}; allowed are from "
            "20, from 50, 0 to 1, above 0 to 1"
        )
    rng = np.random.default_rng(seed)
    genes = draw_genes(n_genes, rng)
    genes = replace(genes, base=captured * genes.base)
    labels = rng.permutation(np.repeat(range(4), _counts(min(n_cells, DISTINCT) if as_sparse else n_cells)))
    blocks = draw_cells(genes, labels, dropout, rng)
    X = sparse.vstack([sparse.csr_array(b) for b in blocks], format="csr") if as_sparse else np.concatenate([*blocks])
    if as_sparse and n_cells > DISTINCT:
        X, labels = _more(X, labels, n_cells, rng)
    names = np.array([f"gene {i}{' (differential)' if d else ''}" for i, d in enumerate(genes.differential)])
    return Cells("simulated", X, labels.astype(str), names, genes.differential)


def draw_genes(n_genes: int, rng: np.random.Generator) -> Genes:
    """Mean counts, and disjoint sets of differential genes for the 4 clusters."""
    base = rng.gamma(BASE_SHAPE, 1 / BASE_RATE, n_genes)
    fold, mixed = np.zeros((n_genes, 4)), np.zeros(n_genes, bool)
    sets = np.split(rng.permutation(n_genes), np.cumsum([round(share * n_genes) for share in DIFFERENTIAL]))
    for cluster, chosen in enumerate(sets[:4]):
        sign = np.where(np.arange(len(chosen)) < round(UP[cluster] * len(chosen)), 1, -1)
        sizes = np.where(sign > 0, FOLD_SIZE[1], FOLD_SIZE[-1])
        tenths = rng.negative_binomial(sizes, sizes / (sizes + FOLD_MEAN))
        fold[chosen, cluster] = sign * np.maximum(tenths, 1) / 10
        mixed[chosen] = rng.random(len(chosen)) >= WHOLE[cluster]
    return Genes(base, fold, mixed)


def draw_cells(genes: Genes, labels: np.ndarray, dropout: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Counts (up to 5,000, d) of the next cells in the order of `labels`, single precision."""
    for start in range(0, len(labels), BLOCK):
        yield _draw_block(genes, labels[start : start + BLOCK], dropout, rng)


def _draw_block(genes: Genes, labels: np.ndarray, dropout: float, rng: np.random.Generator) -> np.ndarray:
    shape = (len(labels), len(genes.base))
    changed = np.ones(shape, bool)
    changed[:, genes.mixed] = rng.random((len(labels), genes.mixed.sum())) < MIXED
    size = np.abs(rng.normal(1, SIZE_SPREAD, len(labels)))
    mean = genes.base * size[:, None] * np.where(changed, 2.0 ** genes.fold.T[labels], 1)
    counts = rng.poisson(mean * rng.gamma(COUNT_SIZE, 1 / COUNT_SIZE, shape)).astype(np.float32)
    return _drop(counts, genes.base, dropout, rng)


def _more(X, labels: np.ndarray, n_cells: int, rng: np.random.Generator):
    """CSR cells and labels, repeated in random order with thinned counts until there are `n_cells`."""
    blocks, chosen = [X], [np.arange(len(labels))]
    for start in range(len(labels), n_cells, len(labels)):
        chosen.append(rng.permutation(len(labels))[: n_cells - start])
        block = X[chosen[-1]]
        block.data = rng.binomial(block.data.astype(np.int32), KEPT).astype(np.float32)
        block.eliminate_zeros()
        blocks.append(block)
    return sparse.vstack(blocks, format="csr"), labels[np.concatenate(chosen)]


def _drop(counts: np.ndarray, base: np.ndarray, dropout: float, rng: np.random.Generator) -> np.ndarray:
    """Zero out counts until each cell's share of zeros is about N(dropout, .05), low genes first.

    Cells with the fewest counts get the most zeros. Which counts go is a weighted draw without replacement: the
    smallest of exponential clocks whose rates are the chances of being dropped.
    """
    share = np.clip(rng.normal(dropout, DROPOUT_SPREAD, len(counts)), 0, 0.99)
    share = np.sort(share)[::-1][counts.sum(axis=1).argsort().argsort()]
    clocks = rng.exponential(size=counts.shape) * np.exp(DROP_DECAY * base)
    clocks[counts == 0] = 0  # zero already
    quantiles = np.minimum((share * counts.shape[1]).astype(int), counts.shape[1] - 1)
    ordered = np.sort(clocks, axis=1)
    limit = np.take_along_axis(ordered, quantiles[:, None], axis=1)
    return np.where(clocks < limit, 0, counts)


def _counts(n_cells: int) -> list[int]:
    """Cells of each cluster: the shares, the remainder in the largest."""
    counts = [int(share * n_cells) for share in SHARES]
    counts[1] += n_cells - sum(counts)
    return counts
