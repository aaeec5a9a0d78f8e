import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from kanoclip.metrics.classification import (
    auroc,
    average_precision,
    f1_at_decision,
    f1_max,
    false_alarms_at_decision,
)
from kanoclip.metrics.ranking import UndefinedMetricError, rank


def f1_max_of_sklearn(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))


def draws():
    """Return scores without ties, with many, with very many, and all equal, for balanced and unbalanced labels."""
    for seed in range(5):
        generator = np.random.default_rng(seed)
        for share in (0.5, 0.02):
            labels = np.r_[True, False, generator.random(998) < share]
            continuous = generator.normal(size=1000) + labels
            yield labels, continuous
            yield labels, continuous.astype(np.float32)
            yield labels, np.round(continuous, 1)
            yield labels, np.round(continuous)
            yield labels, np.zeros(1000)


@pytest.mark.parametrize(("labels", "scores"), list(draws()))
def test_metrics_equal_scikit_learn(labels, scores):
    ranking = rank(scores[labels], scores[~labels])
    assert auroc(ranking) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(ranking) == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert f1_max(ranking) == pytest.approx(f1_max_of_sklearn(labels, scores), abs=1e-9)


def test_metrics_equal_values_by_hand():
    # descending: 0.9 anomalous, 0.8 normal, 0.5 one anomalous and one normal, 0.1 normal
    ranking = rank(np.array([0.9, 0.5]), np.array([0.8, 0.5, 0.1]))
    assert ranking.thresholds.tolist() == [0.9, 0.8, 0.5, 0.1]
    assert ranking.positives.tolist() == [1, 0, 1, 0]
    assert ranking.negatives.tolist() == [0, 1, 1, 1]
    assert ranking.true_positives.tolist() == [1, 1, 2, 2]
    assert ranking.false_positives.tolist() == [0, 1, 2, 3]
    assert auroc(ranking) == pytest.approx((3 + 1.5) / 6)
    assert average_precision(ranking) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert f1_max(ranking) == pytest.approx(2 / 3)  # both thresholds: 2*1/(1+2) and 2*2/(4+2)


def test_scores_that_differ_in_the_last_bit_are_not_ties():
    close = np.nextafter(np.float32(0.5), np.float32(1))
    assert auroc(rank(np.array([close]), np.array([0.5], dtype=np.float32))) == 1.0


@pytest.mark.parametrize("compute", [auroc, average_precision, f1_max])
def test_only_the_order_of_scores_matters(compute):
    generator = np.random.default_rng(0)
    positives, negatives = np.round(generator.normal(1, 1, 300), 1), np.round(generator.normal(0, 1, 700), 1)
    expected = compute(rank(positives, negatives))
    assert compute(rank(np.exp(positives), np.exp(negatives))) == expected
    assert compute(rank(generator.permutation(positives), generator.permutation(negatives))) == expected


def test_inverted_scores_give_the_complement():
    generator = np.random.default_rng(1)
    positives, negatives = np.round(generator.normal(1, 1, 300), 1), np.round(generator.normal(0, 1, 700), 1)
    assert auroc(rank(-positives, -negatives)) == pytest.approx(1 - auroc(rank(positives, negatives)), abs=1e-12)


def test_the_input_is_not_changed():
    positives, negatives = np.array([0.2, 0.1]), np.array([0.4, 0.3])
    rank(positives, negatives)
    assert positives.tolist() == [0.2, 0.1]
    assert negatives.tolist() == [0.4, 0.3]


@pytest.mark.parametrize(
    ("positives", "negatives", "reason"),
    [([], [0.1], "one class only: all normal"), ([0.1], [], "one class only: all anomalous")],
)
def test_images_of_one_label_give_a_reason_and_no_value(positives, negatives, reason):
    with pytest.raises(UndefinedMetricError, match=reason):
        rank(np.array(positives), np.array(negatives))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_decisions_equal_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, scores = generator.random(60) < 0.4, np.round(generator.random(60), 1)
    ranking = rank(scores[labels], scores[~labels], decision=0.6)
    assert f1_at_decision(ranking) == pytest.approx(f1_score(labels, scores >= 0.6))
    assert false_alarms_at_decision(ranking) == pytest.approx(np.mean(scores[~labels] >= 0.6))


def test_a_missing_threshold_gives_a_reason() -> None:
    with pytest.raises(UndefinedMetricError, match="no threshold from an auxiliary dataset"):
        f1_at_decision(rank(np.array([1.0]), np.array([0.0])))
