"""Test the rows of metrics.csv: intervals (against a plain bootstrap), thresholds, and reasons of missing values."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kanoclip.metrics import metrics_of
from kanoclip.metrics.curves import CURVES_COLUMNS
from kanoclip.metrics.ranking import UndefinedMetricError, rank
from kanoclip.metrics.registry import METRICS_COLUMNS
from kanoclip.metrics.results import Results


def draw(seed, n=60, decimals=2):
    generator = np.random.default_rng(seed)
    return np.round(generator.normal(1, 1, n), decimals), np.round(generator.normal(0, 1, 2 * n), decimals)


def ranked(positives, negatives):
    return rank(positives, negatives, decision=0.5)


def results(rankings, bootstrap=500):
    found = Results(bootstrap)
    for (class_name, level), ranking in rankings.items():
        found.add(class_name, level, ranking)
    return found


def table(rankings, bootstrap=500):
    return results(rankings, bootstrap).metrics().set_index(["class_name", "level", "metric"])


def test_the_interval_equals_that_of_a_plain_bootstrap_over_images():
    positives, negatives = draw(0)
    generator = np.random.default_rng(1)
    labels = np.r_[np.ones(len(positives)), np.zeros(len(negatives))]
    values = []
    for _ in range(600):
        drawn = [generator.choice(scores, len(scores)) for scores in (positives, negatives)]
        values.append(roc_auc_score(labels, np.concatenate(drawn)))
    row = table({("a", "image"): rank(positives, negatives)}, bootstrap=1000).loc[("a", "image", "auroc")]
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.015)
    assert row["low"] < row["value"] < row["high"]


def test_a_resample_keeps_the_count_of_each_label_and_has_only_given_scores():
    positives, negatives = draw(0, decimals=1)
    numbers = []
    for which, stack in rank(positives, negatives).resamples(20, np.random.default_rng(0)):
        numbers += which.tolist()
        for drawn in stack.unstacked():
            assert drawn.true_positives[-1] == len(positives) and drawn.false_positives[-1] == len(negatives)
            assert (drawn.positives + drawn.negatives > 0).all()
            assert (np.diff(drawn.thresholds) < 0).all()
            assert set(drawn.thresholds[drawn.positives > 0]) <= set(positives)
            assert (drawn.weights == drawn.positives).all()
    assert sorted(numbers) == list(range(20))


def test_the_draws_are_two_multinomials_in_a_fixed_order():
    ranking = rank(*draw(0, decimals=1))
    generator = np.random.default_rng(5)
    expected = [generator.multinomial(n.sum(), n / n.sum(), size=50) for n in (ranking.positives, ranking.negatives)]
    for which, stack in ranking.resamples(50, np.random.default_rng(5)):
        for number, drawn in zip(which, stack.unstacked(), strict=True):
            at = np.isin(ranking.thresholds, drawn.thresholds)
            assert drawn.positives.tolist() == expected[0][number][at].tolist()
            assert drawn.negatives.tolist() == expected[1][number][at].tolist()
            assert not expected[0][number][~at].any() and not expected[1][number][~at].any()


@pytest.mark.parametrize("n", [1, 2, 5, 16, 60, 300, 9000])
@pytest.mark.parametrize("metric", [m for m in metrics_of("image") if m.stacks], ids=lambda m: m.name)
def test_stacked_draws_give_identical_values_to_single_draws(metric, n):
    ranking = ranked(*draw(n, n, decimals=3))
    for _, stack in ranking.resamples(100 if n < 1000 else 20, np.random.default_rng(0)):
        assert metric.of_each(stack).tolist() == [metric.compute(one) for one in stack.unstacked()]


def test_intervals_are_repeatable_and_missing_without_a_bootstrap():
    rankings = {("a", "image"): rank(*draw(0)), ("a", "pixel"): rank(*draw(1))}
    pd.testing.assert_frame_equal(table(rankings), table(rankings))
    without = table(rankings, bootstrap=0)
    assert without[["low", "high"]].isna().all(axis=None)
    pd.testing.assert_series_equal(without["value"], table(rankings)["value"])


def test_only_image_metrics_have_an_interval():
    found = table({("a", "image"): ranked(*draw(0)), ("a", "pixel"): ranked(*draw(1))})
    assert found.xs("image", level="level")[["low", "high"]].notna().all(axis=None)
    assert found.xs("pixel", level="level")[["low", "high"]].isna().all(axis=None)


def test_classes_are_resampled_independently_so_the_interval_of_their_mean_is_narrower():
    one = {("a", "image"): rank(*draw(0))}
    nine = {(f"{i}", "image"): rank(*draw(0)) for i in range(9)}
    width = {len(r): np.diff(table(r, 2000).loc[("mean", "image", "auroc"), ["low", "high"]])[0] for r in (one, nine)}
    assert width[9] == pytest.approx(width[1] / 3, rel=0.1)


def test_only_f1_max_has_its_threshold():
    positives, negatives = draw(0)
    found = table({("a", "image"): rank(positives, negatives)})
    row = found.loc[("a", "image", "f1_max")]
    hits, alarms = np.sum(positives >= row["threshold"]), np.sum(negatives >= row["threshold"])
    assert 2 * hits / (hits + alarms + len(positives)) == pytest.approx(row["value"])
    assert found["threshold"].notna().sum() == 1


def test_without_a_ranking_every_metric_is_missing_with_the_reason():
    rankings = {("a", "image"): UndefinedMetricError("one class only: all normal"), ("b", "image"): ranked(*draw(0))}
    found = table(rankings)
    numbers = ["value", "low", "high", "threshold"]
    assert found.loc["a", numbers].isna().all(axis=None)
    assert set(found.loc["a", "reason"]) == {"one class only: all normal"}
    assert found.loc["b", "value"].notna().all() and set(found.loc["b", "reason"]) == {""}
    assert found.loc["mean", numbers].isna().all(axis=None)
    assert set(found.loc["mean", "reason"]) == {"a: one class only: all normal"}


def test_one_metric_can_be_missing_alone():
    found = table({("a", "pixel"): rank(np.array([1.0]), np.array([0.0]))})
    assert found.loc[("a", "pixel", "auroc"), "value"] == 1
    assert np.isnan(found.loc[("a", "pixel", "aupro_200"), "value"])
    assert "200 thresholds" in found.loc[("mean", "pixel", "aupro_200"), "reason"]


def test_the_table_has_the_documented_columns_and_rows():
    frame = results({("a", "image"): rank(*draw(0)), ("a", "pixel"): rank(*draw(1))}, 10).metrics()
    assert list(frame.columns) == METRICS_COLUMNS
    assert len(frame) == 2 * (len(metrics_of("image")) + len(metrics_of("pixel")))


def test_only_classes_with_a_ranking_have_curves():
    rankings = {
        ("a", "image"): rank(*draw(0)),
        ("a", "pixel"): rank(*draw(1)),
        ("b", "image"): UndefinedMetricError("one class only: all normal"),
    }
    frame = results(rankings).curves()
    assert list(frame.columns) == CURVES_COLUMNS
    found = frame[["class_name", "level", "curve"]].drop_duplicates().values.tolist()
    assert found == [["a", "image", "roc"], ["a", "pixel", "roc"], ["a", "pixel", "pro"]]
    assert list(results({("b", "image"): UndefinedMetricError("no masks")}).curves().columns) == CURVES_COLUMNS
