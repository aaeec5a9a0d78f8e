"""Compare DeLong's test with brute force, a bootstrap and its null distribution."""

import math

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from kanoclip.cli import app
from kanoclip.metrics.compare import compare, delong
from kanoclip.types import InputError


def draw(generator, n=60, gain=(1.0, 1.0), shared=0.7):
    """Return labels and scores of two methods with correlated errors; `gain` separates anomalous from normal images."""
    labels = np.r_[np.zeros(n, int), np.ones(n, int)]
    hardness = generator.normal(size=2 * n)
    own = generator.normal(size=(2, 2 * n))
    return labels, shared * hardness + math.sqrt(1 - shared**2) * own + np.outer(gain, labels)


def write(folder, labels, scores, classes=None):
    """Write index.csv and one scores.h5 per method."""
    images = [f"{i}.png" for i in range(len(labels))]
    class_names = ["part"] * len(labels) if classes is None else classes
    fields = {"image": images, "mask": "", "class_name": class_names, "label": labels, "defect": "x", "split": "test"}
    pd.DataFrame(fields | {"image_digest": "0" * 32, "mask_digest": ""}).to_csv(folder / "index.csv", index=False)
    paths = [folder / "first.h5", folder / "second.h5"]
    for path, values in zip(paths, scores, strict=True):
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=images, dtype=h5py.string_dtype())
            file["image_score"] = values
    return *paths, folder / "index.csv"


def covariance_by_pairs(labels, scores):
    """Return DeLong's variance by the formula of the paper, over all pairs of an anomalous and a normal image."""
    wins = [
        (np.sign(np.subtract.outer(values[labels == 1], values[labels == 0])) + 1) / 2 for values in scores
    ]  # 1, 0.5, 0
    of_positives = np.cov([won.mean(axis=1) for won in wins])
    of_negatives = np.cov([won.mean(axis=0) for won in wins])
    covariance = of_positives / np.sum(labels == 1) + of_negatives / np.sum(labels == 0)
    return covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]


@pytest.mark.parametrize("decimals", [6, 0])
def test_difference_and_variance_equal_all_pairs(decimals):
    labels, scores = draw(np.random.default_rng(0), gain=(1.5, 0.5))
    scores = np.round(scores, decimals)  # 0 decimals: mostly ties
    difference, variance = delong(labels, scores)
    assert difference == pytest.approx(roc_auc_score(labels, scores[0]) - roc_auc_score(labels, scores[1]))
    assert variance == pytest.approx(covariance_by_pairs(labels, scores))


def test_the_standard_error_equals_that_of_repeated_draws():
    generator = np.random.default_rng(1)
    found = np.array([delong(*draw(generator, gain=(1.2, 0.8))) for _ in range(1000)])
    assert math.sqrt(found[:, 1].mean()) == pytest.approx(found[:, 0].std(), rel=0.07)


def test_p_values_are_uniform_without_a_difference():
    generator = np.random.default_rng(2)
    p = []
    for _ in range(600):
        difference, variance = delong(*draw(generator))
        p.append(2 * stats.norm.sf(abs(difference) / math.sqrt(variance)))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_compare_gives_the_p_value_and_an_interval(tmp_path):
    labels, scores = draw(np.random.default_rng(3), gain=(2.0, 1.0))
    result = compare(*write(tmp_path, labels, scores))
    difference, variance = delong(labels, scores)
    assert result.difference == pytest.approx(difference)
    assert result.p == pytest.approx(2 * stats.norm.sf(difference / math.sqrt(variance)))
    assert (result.low, result.high) == pytest.approx(
        stats.norm.interval(0.95, loc=difference, scale=math.sqrt(variance))
    )
    assert result.p < 0.01 and result.low > 0


def test_swapping_the_methods_changes_only_the_sign(tmp_path):
    first, second, index = write(tmp_path, *draw(np.random.default_rng(4)))
    there, back = compare(first, second, index), compare(second, first, index)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high, back.p) == pytest.approx((-there.high, -there.low, there.p))


def test_several_classes_are_compared_by_their_mean(tmp_path):
    generator = np.random.default_rng(5)
    parts = [draw(generator, n=20), draw(generator, n=50, gain=(1.5, 1.0))]
    classes = ["a"] * 40 + ["b"] * 100
    labels, scores = np.concatenate([part[0] for part in parts]), np.hstack([part[1] for part in parts])
    (d1, v1), (d2, v2) = (delong(*part) for part in parts)
    result = compare(*write(tmp_path, labels, scores, classes))
    assert result.difference == pytest.approx((d1 + d2) / 2)
    assert result.p == pytest.approx(2 * stats.norm.sf(abs(result.difference) / (math.sqrt(v1 + v2) / 2)))


def test_p_is_one_for_equal_rankings_and_missing_for_a_difference_without_variance(tmp_path):
    labels, scores = draw(np.random.default_rng(6))
    assert compare(*write(tmp_path, labels, np.stack([scores[0], np.exp(scores[0])]))).p == 1
    result = compare(*write(tmp_path, labels, np.stack([labels, np.zeros(len(labels))])))
    assert result.difference == 0.5 and math.isnan(result.p)


def test_too_few_images_and_scores_that_are_not_finite_are_refused(tmp_path):
    labels, scores = draw(np.random.default_rng(7), n=2)
    scores[1, 3] = np.nan
    with pytest.raises(InputError, match=r"second\.h5: an image score is not finite"):
        compare(*write(tmp_path, labels, scores))
    with pytest.raises(InputError, match="class 'part' has 3 normal and 1 anomalous images; a comparison needs two"):
        compare(*write(tmp_path, np.array([0, 0, 0, 1]), np.zeros((2, 4))))


def test_the_command_prints_difference_interval_and_p(tmp_path):
    paths = write(tmp_path, *draw(np.random.default_rng(3), gain=(2.0, 1.0)))
    result = CliRunner().invoke(app, ["compare", str(paths[0]), str(paths[1]), "--index", str(paths[2])])
    found = compare(*paths)
    assert result.exit_code == 0
    assert f"{100 * found.difference:+.2f}" in result.output
    assert f"{100 * found.low:+.2f} to {100 * found.high:+.2f}" in result.output
    assert f"p = {found.p:.2g}" in result.output
