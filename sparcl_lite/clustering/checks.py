"""Checks of parameters that all estimators share."""

from collections.abc import Iterable
from numbers import Integral, Real

from sklearn.base import BaseEstimator

AUTO = "auto"


def check_counts(estimator: BaseEstimator, *names: str, auto: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless these parameters are whole numbers of 1 or more, or None where that is their default.

    Those of `auto` may be "auto" as well, or None. As in scikit-learn 3.0 is no whole number and numpy's integers are.
    """
    defaults = type(estimator)().get_params(deep=False)
    for name in names:
        value = getattr(estimator, name)
        if value is None and (defaults[name] is None or name in auto):
            continue
        if name in auto and isinstance(value, str) and value == AUTO:
            continue
        also = f', or "{AUTO}"' if name in auto else ""
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ValueError(f"{name}: got {value!r}, allowed is a whole number of 1 or more{also}")
        if value < 1:
            raise ValueError(f"{name}: got {value}, allowed is 1 or more{also}")


def check_numbers(estimator: BaseEstimator, *names: str, zero: bool = False) -> None:
    """Raise ValueError unless these are numbers above 0 (`zero`: from 0 on), or None where that is the default."""
    defaults = type(estimator)().get_params(deep=False)
    for name in names:
        value = getattr(estimator, name)
        if value is None and defaults[name] is None:
            continue
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not (value >= 0 if zero else value > 0):
            shown = value if number else repr(value)
            raise ValueError(f"{name}: got {shown}, allowed is {'0 or more' if zero else 'a number above 0'}")


def check_choices(estimator: BaseEstimator, **allowed: Iterable[str]) -> None:
    """Raise ValueError unless these parameters are among what is allowed."""
    for name, choices in allowed.items():
        if getattr(estimator, name) not in choices:
            raise ValueError(f"{name}: got {getattr(estimator, name)!r}, allowed are {', '.join(choices)}")
