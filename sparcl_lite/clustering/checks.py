"""Checks of parameters that all estimators share."""

from numbers import Integral

from sklearn.base import BaseEstimator


def check_counts(estimator: BaseEstimator, *names: str) -> None:
    """Raise ValueError unless these parameters are whole numbers of 1 or more, or None where that is their default.

    As in scikit-learn 3.0 is no whole number and numpy's integers are.
    """
    defaults = type(estimator)().get_params(deep=False)
    for name in names:
        value = getattr(estimator, name)
        if value is None and defaults[name] is None:
            continue
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ValueError(f"{name}: got {value!r}, allowed is a whole number of 1 or more")
        if value < 1:
            raise ValueError(f"{name}: got {value}, allowed is 1 or more")
