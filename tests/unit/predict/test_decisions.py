"""Thresholds from normal images keep the promised rate in simulations, and too few images are refused."""

import numpy as np
import pytest
from scipy.stats import binom

from kanoclip.predict.decisions import calibrated, guessed
from kanoclip.types import InputError


@pytest.mark.parametrize(("count", "rate"), [(9, 0.1), (50, 0.1), (99, 0.01), (30, 0.3)])
def test_the_rate_and_its_interval_hold_over_many_draws(count: int, rate: float) -> None:
    """On uniform scores, the true rate of a threshold is the length of the interval above it."""
    generator = np.random.default_rng(0)
    found = [calibrated(scores, scores, rate) for scores in generator.random((4000, count)).astype(np.float32)]
    true = np.array([1 - one.image for one in found])
    assert true.mean() == pytest.approx(found[0].expected, rel=0.05)
    assert found[0].expected <= rate + 1e-9
    assert np.mean(true < found[0].low) == pytest.approx(0.025, abs=0.01)
    assert np.mean(true > found[0].high) == pytest.approx(0.025, abs=0.01)


def test_the_interval_equals_that_of_an_order_statistic() -> None:
    """P(rate <= r) for the k-th of n is P(at most n - k of n are above the quantile 1 - r), a sum of binomials."""
    count, rate = 40, 0.1
    found = calibrated(np.arange(count, dtype=np.float32), np.arange(count, dtype=np.float32), rate)
    rank = int(np.floor(found.image)) + 1
    assert binom.sf(count - rank, count, found.low) == pytest.approx(0.025, abs=1e-6)
    assert binom.sf(count - rank, count, found.high) == pytest.approx(0.975, abs=1e-6)


def test_at_the_lowest_supported_rate_no_calibration_image_is_called_anomalous() -> None:
    scores = np.random.default_rng(1).random(19).astype(np.float32)
    found = calibrated(scores, scores + 1, 0.05)
    assert (scores >= found.image).sum() == 0 and found.image == pytest.approx(scores.max(), abs=1e-6)
    assert found.pixel == pytest.approx(scores.max() + 1, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        (np.arange(98.0), 0.01, "a false-alarm rate of 0.01 needs at least 99, found 98; 98 support 0.01 and above"),
        (np.arange(4.0), 0.1, "needs at least 9, found 4; 4 support 0.2 and above"),
        (np.arange(0.0), 0.1, "needs at least 9, found 0; give some"),
        (np.full(20, 0.25), 0.1, "all 20 have the same score 0.25"),
        (np.arange(4.0), 1.5, "expected a rate above 0 and below 1"),
    ],
)
def test_normals_that_cannot_support_the_rate_are_refused(scores: np.ndarray, rate: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibrated(scores, scores, rate)


def test_a_rate_that_is_just_supported_is_accepted() -> None:
    assert calibrated(np.arange(99.0), np.arange(99.0), 0.01).expected == pytest.approx(0.01)


def test_a_guessed_threshold_states_its_reliability() -> None:
    record = {
        "image": 0.3,
        "pixel": 0.4,
        "image_found": 0.7,
        "image_false_alarms": 0.25,
        "auxiliary": "drawn",
        "folds": 1,
    }
    found = guessed(record)
    assert (found.image, found.pixel) == (0.3, 0.4)
    assert "guessed from drawn" in found.words and "70 %" in found.words and "25 %" in found.words
    assert guessed(None).image is None and "no decisions" in guessed(None).words
    assert "one class" in guessed({"reason": "one class"}).words
