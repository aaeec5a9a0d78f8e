"""Test the content of figures that compare methods."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from kanoclip.metrics.curves import CURVES_COLUMNS
from kanoclip.metrics.registry import METRICS_COLUMNS
from kanoclip.report.figures.bars import bars
from kanoclip.report.figures.curves import detection_curves, mean_curve
from kanoclip.report.figures.histograms import histograms
from kanoclip.report.figures.ranks import cliques, ranks
from kanoclip.report.figures.steps import steps
from kanoclip.report.figures.summary import IMAGES, SEEDS, read_aurocs, with_intervals
from kanoclip.report.style import NOTHING
from kanoclip.types import InputError


def long_row(method, dataset, seed, level, value, interval=("", ""), class_name="mean", reason=""):
    row = dict.fromkeys(METRICS_COLUMNS, "") | {"backbone": "ViT-L-14", "auxiliary": "none", "metric": "auroc"}
    row |= {"method": method, "dataset": dataset, "seed": seed, "level": level, "class_name": class_name}
    low, high = interval
    return row | {"value": "" if value is None else value, "low": low, "high": high, "reason": reason}


@pytest.fixture
def metrics(tmp_path):
    """Write a long-format metrics.csv: clip has one run with intervals, kanoclip has two seeds; elpv has no masks."""
    rows = []
    for dataset, image, pixel in [("visa", 0.6, 0.7), ("elpv", 0.5, None), ("mpdd", 0.7, 0.9)]:
        reason = "" if pixel else "no masks"
        rows.append(long_row("clip", dataset, 1, "image", image, (image - 0.1, image + 0.2)))
        rows.append(long_row("clip", dataset, 1, "pixel", pixel, reason=reason))
        rows.append(long_row("clip", dataset, 1, "image", 0.01, class_name="bottle"))
        for seed, more in ((1, 0.0), (2, 0.02)):
            rows.append(long_row("kanoclip", dataset, seed, "image", image + 0.1 + more))
            rows.append(long_row("kanoclip", dataset, seed, "pixel", pixel and pixel + more, reason=reason))
    pd.DataFrame(rows, columns=METRICS_COLUMNS).to_csv(tmp_path / "metrics.csv", index=False)
    return tmp_path / "metrics.csv"


METHODS, DATASETS = ["clip", "kanoclip"], ["visa", "elpv", "mpdd"]


def test_intervals_equal_values_by_hand(metrics):
    cells = with_intervals(read_aurocs(metrics, METHODS)).set_index(["level", "dataset", "method"])
    once, twice = cells.loc["image", "visa", "clip"], cells.loc["image", "visa", "kanoclip"]
    assert (once["value"], once["low"], once["high"], once["spread"]) == (60, 50, pytest.approx(80), IMAGES)
    # 70 and 72: mean 71, sample standard deviation sqrt(2)
    assert twice[["value", "low", "high"]].tolist() == pytest.approx([71, 71 - 2**0.5, 71 + 2**0.5])
    assert twice["spread"] == SEEDS
    missing = cells.loc["pixel", "elpv", "kanoclip"]
    assert np.isnan(missing["value"]) and missing["reason"] == "no masks"


def test_unknown_methods_and_duplicate_values_are_refused(metrics):
    with pytest.raises(InputError, match="unknown method in .*metrics.csv 'klip'; did you mean 'clip'?"):
        read_aurocs(metrics, ["klip"])
    frame = pd.read_csv(metrics)
    pd.concat([frame, frame.head(1).assign(backbone="other")]).to_csv(metrics, index=False)
    with pytest.raises(InputError, match="metrics.csv: clip on visa has several values per seed"):
        read_aurocs(metrics, METHODS)


def test_bars_have_one_panel_per_level_and_reasons(metrics, panels, texts, draw_twice):
    out = draw_twice(lambda path: bars(metrics, METHODS, DATASETS, path))
    assert panels(out) == 2
    shown = [text.strip() for text in texts(out)]
    assert all(shown.count(dataset) == 2 for dataset in DATASETS)
    assert (shown.count("clip"), shown.count("no masks")) == (1, 1)


def test_a_level_without_any_bar_is_left_out(metrics, panels, texts, tmp_path):
    frame = pd.read_csv(metrics, keep_default_na=False, na_values={"value": [""]})
    frame.loc[frame["level"] == "pixel", ["value", "reason"]] = np.nan, "no masks"
    frame.to_csv(metrics, index=False)
    bars(metrics, METHODS, DATASETS, tmp_path / "image.png")
    assert panels(tmp_path / "image.png") == 1
    assert "pixel AUROC (%)" not in texts(tmp_path / "image.png")
    frame.assign(value=np.nan, reason="unlabelled images").to_csv(metrics, index=False)
    bars(metrics, METHODS, DATASETS, tmp_path / "none.png")
    assert "no labels" in Image.open(tmp_path / "none.png").info[NOTHING]


def test_ranks_leave_out_missing_values(metrics, texts, draw_twice):
    shown = [text.strip() for text in texts(draw_twice(lambda path: ranks(metrics, METHODS, DATASETS, path)))]
    assert "image AUROC (datasets: 3)" in shown and "pixel AUROC (datasets: 2)" in shown
    # kanoclip is better on every dataset by image and by pixel AUROC
    assert [text for text in shown if "clip" in text] == ["kanoclip  1.00", "2.00  clip"] * 2


def test_ranks_leave_out_datasets_that_a_method_was_trained_on(metrics, texts, tmp_path):
    frame = pd.read_csv(metrics, keep_default_na=False, na_values={"value": [""]})
    seen = (frame["method"] == "kanoclip") & (frame["dataset"] == "visa")
    frame.loc[seen, "auxiliary"] = "visa"
    frame.to_csv(metrics, index=False)
    ranks(metrics, METHODS, DATASETS, tmp_path / "figure.png")
    assert "image AUROC (datasets: 2)" in [text.strip() for text in texts(tmp_path / "figure.png")]


def test_ranks_state_when_there_is_nothing_to_rank(metrics, texts, tmp_path):
    ranks(metrics, METHODS, ["elpv"], tmp_path / "figure.png")
    assert sum("at least two" in text for text in texts(tmp_path / "figure.png")) == 1
    assert "at least two" in Image.open(tmp_path / "figure.png").info[NOTHING]


@pytest.mark.parametrize(
    ("ranks", "distance", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.5, []),
        ([1.0, 2.0, 3.0], 1.0, [(0, 1), (1, 2)]),
        ([1.0, 1.5, 3.0, 3.2], 0.6, [(0, 1), (2, 3)]),
        ([1.0, 2.0, 3.0], 5.0, [(0, 2)]),
        ([1.5, 1.5], 0.0, [(0, 1)]),
    ],
)
def test_bars_of_a_rank_diagram_join_maximal_groups(ranks, distance, expected):
    assert cliques(ranks, distance) == expected


def test_cliques_equal_a_search_over_all_subsets():
    ranks = sorted(np.random.default_rng(0).uniform(1, 9, 9))
    runs = {(i, j) for i in range(9) for j in range(i + 1, 9) if ranks[j] - ranks[i] <= 2.5}
    longest = {(i, j) for i, j in runs if not any((a, b) != (i, j) and a <= i and j <= b for a, b in runs)}
    assert set(cliques(ranks, 2.5)) == longest


def test_ablation_has_one_line_per_dataset_and_their_mean(metrics, panels, texts, draw_twice):
    out = draw_twice(lambda path: steps(metrics, METHODS, DATASETS, path))
    shown = [text.strip() for text in texts(out)]
    assert panels(out) == 2
    assert all(shown.count(name) == 1 for name in [*DATASETS, "mean of the datasets"])
    assert all(shown.count(name) == 2 for name in METHODS)


def test_ablation_without_values_states_the_reason(metrics, texts, tmp_path):
    steps(metrics, METHODS, ["elpv"], tmp_path / "figure.png")
    assert sum("no dataset has a value" in text for text in texts(tmp_path / "figure.png")) == 1


def curves_of(classes):
    """Write a curves.csv with the image ROC of labels and scores per class, from scikit-learn."""
    parts = []
    for name, (labels, scores) in classes.items():
        x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
        parts.append(pd.DataFrame({"class_name": name, "level": "image", "curve": "roc", "x": x, "y": y}))
    return pd.concat(parts)[CURVES_COLUMNS]


def test_the_area_under_the_mean_curve_is_the_class_mean():
    generator = np.random.default_rng(0)
    classes = {name: (generator.integers(0, 2, 400), generator.normal(size=400)) for name in ("a", "b")}
    for labels, scores in classes.values():
        scores += labels
    rates = np.linspace(0, 1, 20_001)
    area = np.trapezoid(mean_curve(curves_of(classes), "image", "roc", rates), rates)
    assert area == pytest.approx(np.mean([roc_auc_score(*pair) for pair in classes.values()]), abs=1e-3)


def test_a_missing_curve_has_no_panel(panels, texts, draw_twice, tmp_path):
    frame = curves_of({"nut": ([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9])})
    assert mean_curve(frame, "pixel", "pro", np.linspace(0, 0.3, 5)) is None
    frame.to_csv(tmp_path / "curves.csv", index=False)
    files = {"clip": [tmp_path / "curves.csv"], "kanoclip": [tmp_path / "curves.csv"] * 2}
    out = draw_twice(lambda path: detection_curves(files, path))
    shown = texts(out)
    assert panels(out) == 1
    assert (shown.count("clip"), shown.count("kanoclip")) == (1, 1)
    assert NOTHING not in Image.open(out).info


def test_without_curves_the_figure_states_the_reason(tmp_path):
    pd.DataFrame(columns=CURVES_COLUMNS).to_csv(tmp_path / "curves.csv", index=False)
    detection_curves({"clip": [tmp_path / "curves.csv"]}, tmp_path / "figure.png")
    assert "no labels" in Image.open(tmp_path / "figure.png").info[NOTHING]


def test_a_file_without_curves_is_refused(metrics, tmp_path):
    with pytest.raises(InputError, match="metrics.csv: expected the columns class_name,level,curve,x,y"):
        detection_curves({"clip": [metrics]}, tmp_path / "figure.png")


def test_histograms_show_the_highest_f1(scored, panels, texts, draw_twice):
    index, scores = scored("toy", normal=3, anomalous=5)
    out = draw_twice(lambda path: histograms(index, scores, path))
    assert panels(out) == 2
    # the five anomalous images have the highest scores, from 0.4 on, so F1 is 1
    assert f1_score([0] * 3 + [1] * 5, np.linspace(0.1, 0.8, 8) >= 0.39) == 1
    assert [text for text in texts(out) if text.startswith("F1")] == ["F1 1.00 at 0.4", "F1 1.00 at 0.41"]


def test_histograms_of_unlabelled_images_have_no_threshold(scored, texts, tmp_path):
    index, scores = scored("toy", normal=0, anomalous=0, unlabelled=6)
    histograms(index, scores, tmp_path / "figure.png")
    shown = [text.strip() for text in texts(tmp_path / "figure.png")]
    assert "unlabelled" in shown and not [text for text in shown if "F1" in text or "one class" in text]


def test_histograms_of_one_class_have_no_threshold(scored, texts, tmp_path):
    index, scores = scored("toy", normal=3, anomalous=0)
    histograms(index, scores, tmp_path / "figure.png")
    assert sum("one class only" in text for text in texts(tmp_path / "figure.png")) == 2
