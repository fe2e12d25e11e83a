"""Small data that several tests share."""

import numpy as np
import pytest

from sparcl_lite.clustering import simulate


@pytest.fixture(scope="session")
def cells():
    """300 simulated cells with 1,000 genes, 360 of them differential."""
    return simulate(300, 1_000, seed=3)


@pytest.fixture(scope="session")
def planted():
    """90 samples in 3 clusters that differ in the first 10 of 200 features: X (90, 200), labels (90,)."""
    rng = np.random.RandomState(0)
    labels = np.repeat([0, 1, 2], 30)
    X = rng.normal(size=(90, 200))
    X[:, :10] += rng.normal(0, 4, (3, 10))[labels]
    return X, labels
