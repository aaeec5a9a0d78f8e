"""Check for every registered metric the range, the direction and the levels that it declares."""

import numpy as np
import pytest

from kanoclip.metrics import METRICS, get_metric, metrics_of
from kanoclip.metrics.ranking import rank
from kanoclip.types import InputError

ALL = [pytest.param(metric, id=f"{level}-{name}") for (level, name), metric in METRICS.items()]


def ranking(positives, negatives, decision=1.5):
    weights = np.full(len(positives), 0.25)
    return rank(np.asarray(positives, float), np.asarray(negatives, float), weights, decision)


@pytest.mark.parametrize("metric", ALL)
def test_perfect_scores_beat_inverted_scores(metric):
    best = metric.highest if metric.higher_is_better else metric.lowest
    low, high = np.linspace(0, 1, 30), np.linspace(2, 3, 30)
    perfect = metric.compute(ranking(high, low))
    inverted = metric.compute(ranking(low, high))
    assert perfect == pytest.approx(best)
    assert (inverted < perfect) == metric.higher_is_better


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("seed", range(5))
def test_values_stay_in_the_declared_range(metric, seed):
    generator = np.random.default_rng(seed)
    value = metric.compute(ranking(np.round(generator.normal(size=20), 1), np.round(generator.normal(size=80), 1)))
    assert metric.lowest <= value <= metric.highest


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_is_listed_under_its_level_and_found_by_its_name(metric):
    assert metric in metrics_of(metric.level)
    assert get_metric(metric.level, metric.name) is metric
    assert metric.label.startswith(metric.level)


def test_both_levels_have_the_common_metrics():
    assert {"auroc", "ap", "f1_max"} <= {metric.name for metric in metrics_of("image")}
    assert {"auroc", "ap", "f1_max", "aupro"} <= {metric.name for metric in metrics_of("pixel")}


def test_the_error_on_an_unknown_metric_suggests_the_nearest_name():
    with pytest.raises(InputError, match="unknown image metric 'aurok'; did you mean 'auroc'"):
        get_metric("image", "aurok")
