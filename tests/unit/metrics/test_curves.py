import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.metrics import auc, roc_curve

from kanoclip.metrics.aupro import aupro
from kanoclip.metrics.curves import MAX_POINTS, pro_curve_points, roc_curve_points
from kanoclip.metrics.ranking import rank


def draw(n, decimals):
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=n), decimals)
    labels = generator.random(n) < 0.2
    scores[labels] += 1
    return labels, scores, generator.random(int(labels.sum()))


def ranking_of(labels, scores, weights):
    return rank(scores[labels], scores[~labels], weights)


def test_the_roc_curve_equals_that_of_scikit_learn():
    labels, scores, weights = draw(400, decimals=1)
    fpr, tpr = roc_curve_points(ranking_of(labels, scores, weights))
    expected = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose((fpr, tpr), expected[:2], atol=1e-12)


def test_a_long_curve_is_reduced_to_a_subset_of_its_points():
    labels, scores, weights = draw(20_000, decimals=9)
    fpr, tpr = roc_curve_points(ranking_of(labels, scores, weights))
    assert len(fpr) <= MAX_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    exact = cKDTree(np.stack(roc_curve(labels, scores, drop_intermediate=False)[:2], axis=1))
    assert exact.query(np.stack([fpr, tpr], axis=1))[0].max() < 1e-12
    assert auc(fpr, tpr) == pytest.approx(auc(*roc_curve(labels, scores)[:2]), abs=1e-4)


@pytest.mark.parametrize("decimals", [0, 1])
def test_the_area_below_the_pro_curve_is_aupro(decimals):
    ranking = ranking_of(*draw(400, decimals))
    fpr, overlap = pro_curve_points(ranking)
    assert fpr[-1] == 0.3
    assert auc(fpr, overlap) / 0.3 == pytest.approx(aupro(ranking), abs=1e-12)


def test_the_pro_curve_of_perfect_scores_starts_at_one():
    fpr, overlap = pro_curve_points(rank(np.array([0.8, 0.9]), np.array([0.1, 0.1]), np.array([0.5, 0.5])))
    assert fpr.tolist() == [0, 0, 0, 0.3] and overlap.tolist() == [0, 0.5, 1, 1]
