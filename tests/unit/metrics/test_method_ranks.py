import numpy as np
import pandas as pd
import pytest

from kanoclip.metrics.method_ranks import average_ranks, critical_difference
from kanoclip.types import InputError


def test_ranks_with_a_tie_by_hand():
    table = pd.DataFrame({"a": [0.9, 0.8, 0.7], "b": [0.9, 0.6, 0.8], "c": [0.1, 0.7, 0.9]}, index=["x", "y", "z"])
    ranks = average_ranks(table)
    assert ranks.to_dict() == pytest.approx({"a": (1.5 + 1 + 3) / 3, "b": (1.5 + 3 + 2) / 3, "c": (3 + 2 + 1) / 3})
    assert ranks.attrs == {"datasets": 3, "left_out": 0}


def test_ranks_have_the_right_sum_and_do_not_depend_on_the_scale():
    table = pd.DataFrame(np.round(np.random.default_rng(0).random((12, 5)), 1), columns=list("abcde"))
    ranks = average_ranks(table)
    assert ranks.sum() == pytest.approx(15)
    pd.testing.assert_series_equal(average_ranks(np.exp(100 * table)), ranks)


def test_datasets_with_a_missing_value_are_left_out_and_counted():
    table = pd.DataFrame({"a": [0.9, np.nan, 0.9], "b": [0.8, 0.9, 0.7]})
    ranks = average_ranks(table)
    assert ranks.to_dict() == {"a": 1, "b": 2}
    assert ranks.attrs == {"datasets": 2, "left_out": 1}


def test_no_complete_dataset_is_an_error():
    with pytest.raises(InputError, match="none of 2 datasets has a value for every method"):
        average_ranks(pd.DataFrame({"a": [0.9, np.nan], "b": [np.nan, 0.9]}))


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_uses_the_quantiles_of_demsar_table_5(methods, quantile):
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 12))
    assert critical_difference(methods, 12) == pytest.approx(expected, rel=5e-4)


def test_the_example_of_demsar_is_reproduced():
    # section 3.2.2: four algorithms on 14 datasets, CD 1.25 at 0.05 and 1.12 at 0.10 (from rounded tables)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.01)
