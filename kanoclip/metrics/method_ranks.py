"""Average ranks of methods over datasets, and their critical difference (Demšar, JMLR 2006)."""

import math

import pandas as pd

from kanoclip.types import InputError


def average_ranks(table: pd.DataFrame) -> pd.Series:
    """Return the mean rank of each method over the datasets; 1 is best, and equal values get the mean of their ranks.

    A dataset without a value for some method is left out, since a missing method would shift all other ranks.

    Args:
        table: one row per dataset and one column per method; higher is better.

    Returns:
        Mean ranks by method, between 1 and the number of methods. Its `attrs` hold `datasets`, the ranked rows, and
        `left_out`, the rows with a missing value.

    Raises:
        InputError: every row has a missing value.

    >>> table = pd.DataFrame({"a": [0.9, 0.8], "b": [0.5, 0.8]}, index=["textile", "elpv"])
    >>> average_ranks(table).to_dict()
    {'a': 1.25, 'b': 1.75}
    """
    complete = table.dropna()
    if complete.empty:
        raise InputError(f"average ranks: none of {len(table)} datasets has a value for every method")
    ranks = complete.rank(axis="columns", ascending=False, method="average").mean()
    ranks.attrs = {"datasets": len(complete), "left_out": len(table) - len(complete)}
    return ranks


def critical_difference(methods: int, datasets: int, alpha: float = 0.05) -> float:
    """Return the critical difference of the Nemenyi test: average ranks that differ by more are significant at alpha.

    Args:
        methods: the number of methods that were ranked, at least 2.
        datasets: the number of datasets, at least 1.
        alpha: level of the test over all pairs of methods.

    >>> round(critical_difference(methods=5, datasets=30), 3)  # Demšar 2006, table 5: q = 2.728
    1.114
    """
    from scipy.stats import studentized_range  # takes half a second, which commands without this test should not spend

    quantile = float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))
