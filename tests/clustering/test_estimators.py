"""Every estimator keeps scikit-learn's rules."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparcl_lite.clustering import SIMLR, KSparse, SparseKMeans, SpectralNJW

SMALL = {"n_init": 2}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        KSparse(**SMALL),
        KSparse(init="whitened", eta=5.0, centroids="identity-penalty", **SMALL),
        KSparse(init="pca", constraint="sphere", eta=1.0, n_jobs=2, **SMALL),
        SparseKMeans(**SMALL),
        SpectralNJW(**SMALL),
        SIMLR(max_iter=3),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
