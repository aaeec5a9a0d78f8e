"""Compare evaluate() with scikit-learn and SciPy on generated files, and test its errors on bad files."""

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from scored_files import BAD, GOOD, GRID, SIZE, write_dataset, write_scores
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from kanoclip.datasets.images import digest
from kanoclip.datasets.index import read_index
from kanoclip.metrics.compare import compare
from kanoclip.metrics.evaluate import evaluate
from kanoclip.metrics.registry import METRICS, metrics_of
from kanoclip.types import InputError


@pytest.fixture
def files(tmp_path):
    index = write_dataset(tmp_path)
    return write_scores(index, tmp_path / "scores.h5"), index, tmp_path / "out" / "metrics.csv"


def value(frame, class_name, level, metric):
    found = frame[(frame["class_name"] == class_name) & (frame["level"] == level) & (frame["metric"] == metric)]
    assert len(found) == 1
    return found["value"].item()


def nearest(mask, size):
    """Resize by nearest neighbour with NumPy: take the pixel at the centre of each new pixel."""
    rows = ((np.arange(size) + 0.5) * mask.shape[0] / size).astype(int)
    columns = ((np.arange(size) + 0.5) * mask.shape[1] / size).astype(int)
    return mask[np.ix_(rows, columns)]


def bilinear(grid, size):
    """Upsample bilinearly with SciPy in float64, with half-pixel centres and repeated edges."""
    at = (np.arange(size) + 0.5) * grid.shape[0] / size - 0.5
    return ndimage.map_coordinates(grid.astype(float), np.meshgrid(at, at, indexing="ij"), order=1, mode="nearest")


@pytest.mark.parametrize("resolution", [None, 64])
def test_metrics_equal_scikit_learn_on_upsampled_and_smoothed_maps(files, resolution):
    scores, index, out = files
    evaluate(scores, index, out, resolution=resolution)
    frame = pd.read_csv(out)
    size = resolution or SIZE
    rows = read_index(index)
    with h5py.File(scores) as file:
        maps, image_score = file["map"][:], file["image_score"][:]
    for class_name in ("bottle", "metal nut"):
        at = np.flatnonzero(rows["class_name"] == class_name)
        labels = rows["label"].to_numpy()[at]
        assert value(frame, class_name, "image", "auroc") == pytest.approx(roc_auc_score(labels, image_score[at]))
        assert value(frame, class_name, "image", "ap") == pytest.approx(
            average_precision_score(labels, image_score[at])
        )
        masks = [np.asarray(Image.open(path)) > 0 if path else np.zeros((48, 40), bool) for path in rows.mask_path[at]]
        truth = np.stack([nearest(mask, size) for mask in masks]).ravel()
        full = np.stack([ndimage.gaussian_filter(bilinear(maps[i], size), 4.0 * size / 518) for i in at]).ravel()
        assert value(frame, class_name, "pixel", "auroc") == pytest.approx(roc_auc_score(truth, full), abs=5e-6)
        assert value(frame, class_name, "pixel", "ap") == pytest.approx(average_precision_score(truth, full), abs=5e-6)


def test_the_mean_row_is_the_unweighted_class_mean(files):
    evaluate(*files)
    frame = pd.read_csv(files[2], keep_default_na=False, na_values={"value": [""]})
    assert list(frame.columns) == (
        ["method", "backbone", "auxiliary", "dataset", "class_name", "seed", "level", "metric"]
        + ["value", "low", "high", "threshold", "reason", "digest"]
    )
    assert len(frame) == 3 * len(METRICS)  # two classes and their mean
    assert frame[["method", "backbone", "auxiliary", "dataset", "seed"]].drop_duplicates().values.tolist() == [
        ["clip", "tiny", "none", "toy", 3]
    ]
    for level, metric in [("image", "auroc"), ("pixel", "aupro")]:
        classes = [value(frame, name, level, metric) for name in ("bottle", "metal nut")]
        assert value(frame, "mean", level, metric) == pytest.approx(sum(classes) / 2)


def test_the_masks_themselves_reach_the_best_value_of_every_metric(tmp_path):
    index = write_dataset(tmp_path)
    masks = [
        np.asarray(Image.open(path)) > 0 if path else np.zeros((48, 40)) for path in read_index(index)["mask_path"]
    ]
    maps = np.stack([nearest(mask, SIZE) for mask in masks])
    scores = write_scores(index, tmp_path / "scores.h5", maps, maps.max(axis=(1, 2)), sigma=0.0)
    evaluate(scores, index, tmp_path / "metrics.csv")
    frame = pd.read_csv(tmp_path / "metrics.csv").set_index("metric")
    for row in frame.drop("aupro_200").itertuples():
        metric = METRICS[row.level, row.Index]
        assert row.value == (metric.highest if metric.higher_is_better else metric.lowest), metric.label
    assert frame.loc["aupro_200", "value"].isna().all()  # here released code divides zero by zero
    assert frame.loc["aupro_200", "reason"].str.contains("fewer than two of 200 thresholds").all()


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint8])
def test_maps_of_other_types_have_the_values_of_float32(tmp_path, kind):
    """Another program may store them; the maps are the same in all of these types."""
    index = write_dataset(tmp_path)
    maps = np.random.default_rng(2).integers(0, 2, (len(read_index(index)), GRID, GRID))
    found = []
    for number, stored in enumerate((np.float32, kind)):
        scores = write_scores(index, tmp_path / f"{number}.h5", maps)
        with h5py.File(scores, "r+") as file:
            del file["map"]
            file["map"] = maps.astype(stored)
        evaluate(scores, index, tmp_path / f"{number}.csv", bootstrap=0)
        found.append(pd.read_csv(tmp_path / f"{number}.csv").drop(columns="digest", errors="ignore"))
    pd.testing.assert_frame_equal(*found)


def test_without_masks_the_pixel_values_are_missing_with_the_reason(tmp_path):
    index = write_dataset(tmp_path, masks=False)
    evaluate(write_scores(index, tmp_path / "scores.h5"), index, tmp_path / "metrics.csv")
    frame = pd.read_csv(tmp_path / "metrics.csv")
    pixel = frame[frame["level"] == "pixel"]
    assert len(pixel) == 3 * len(metrics_of("pixel"))
    assert pixel["value"].isna().all()
    assert (pixel["reason"] == "no masks").all()
    assert frame[frame["level"] == "image"]["value"].notna().all()


@pytest.mark.parametrize(
    ("normal", "anomalous", "image_reason", "pixel_reason"),
    [(3, 0, "one class only: all normal", "one class only: all normal"), (0, 3, "one class only: all anomalous", "")],
)
def test_images_of_one_label_give_missing_values_with_the_reason(
    tmp_path, normal, anomalous, image_reason, pixel_reason
):
    index = write_dataset(tmp_path, classes=["bottle"], normal=normal, anomalous=anomalous)
    evaluate(write_scores(index, tmp_path / "scores.h5"), index, tmp_path / "metrics.csv")
    frame = pd.read_csv(tmp_path / "metrics.csv", keep_default_na=False, na_values={"value": [""]})
    for level, reason in [("image", image_reason), ("pixel", pixel_reason)]:
        rows = frame[frame["level"] == level]
        assert (rows["reason"] == reason).all()
        assert (rows["value"].isna() == bool(reason)).all()


def test_unlabelled_images_have_no_metrics_and_no_curves(tmp_path):
    index = write_dataset(tmp_path, masks=False)
    frame = pd.read_csv(index, dtype=str, keep_default_na=False)
    frame.assign(label="", defect="unlabelled").to_csv(index, index=False)
    evaluate(write_scores(index, tmp_path / "scores.h5"), index, tmp_path / "metrics.csv")
    result = pd.read_csv(tmp_path / "metrics.csv")
    assert set(result["level"]) == {"image", "pixel"}
    assert result["value"].isna().all() and (result["reason"] == "unlabelled images").all()
    assert pd.read_csv(tmp_path / "curves.csv").empty
    with pytest.raises(InputError, match="class 'bottle' has unlabelled images; a comparison needs labels"):
        compare(tmp_path / "scores.h5", tmp_path / "scores.h5", index)


def test_a_mean_over_a_missing_class_is_missing_and_names_it(tmp_path):
    index = write_dataset(tmp_path)
    frame = pd.read_csv(index, keep_default_na=False)
    frame[~((frame["class_name"] == "bottle") & (frame["label"] == 1))].to_csv(index, index=False)
    evaluate(write_scores(index, tmp_path / "scores.h5"), index, tmp_path / "metrics.csv")
    result = pd.read_csv(tmp_path / "metrics.csv")
    mean = result[(result["class_name"] == "mean")]
    assert mean["value"].isna().all()
    assert (mean["reason"] == "bottle: one class only: all normal").all()


def test_another_set_of_images_is_refused(files, tmp_path):
    scores, index, out = files
    frame = pd.read_csv(index, keep_default_na=False)
    frame.iloc[:-1].to_csv(index, index=False)
    with pytest.raises(InputError, match=r"scores\.h5: 18 images, .*index\.csv lists 17"):
        evaluate(scores, index, out)
    frame.iloc[[1, 0, *range(2, 18)]].to_csv(index, index=False)
    with pytest.raises(InputError, match=r"row 0 is 'bottle-0\.png', in .* it is 'bottle-1\.png'"):
        evaluate(scores, index, out)
    assert not out.exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["map", "image_score"])
def test_the_error_on_a_non_finite_score_names_file_and_image(files, what, bad):
    scores, index, out = files
    with h5py.File(scores, "a") as file:
        file[what][10] = bad
    with pytest.raises(InputError, match=rf"scores\.h5: the {what.replace('_', ' ')} of 'metal nut-1\.png' is not fin"):
        evaluate(scores, index, out)
    assert not out.exists()


def test_an_anomalous_image_without_a_mask_among_others_is_refused(files):
    scores, index, out = files
    frame = pd.read_csv(index, keep_default_na=False)
    frame.loc[5, ["mask", "mask_digest"]] = ""
    frame.to_csv(index, index=False)
    with pytest.raises(InputError, match=r"'bottle-5\.png' is anomalous and has no mask"):
        evaluate(scores, index, out)
    assert not out.exists()


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_the_error_on_a_map_outside_its_range_names_file_and_image(files, value):
    scores, index, out = files
    with h5py.File(scores, "a") as file:
        file["map"][4, 0, 0] = value
    with pytest.raises(InputError, match=r"scores\.h5: the map of 'bottle-4\.png' is not finite and in 0\.\.1"):
        evaluate(scores, index, out)
    assert not out.exists()


def redraw(mask, path, index):
    """Replace a mask and its digest in the index."""
    before = digest(path.read_bytes())
    Image.fromarray(mask).save(path)
    index.write_text(index.read_text().replace(before, digest(path.read_bytes())))


def test_an_empty_mask_of_an_anomalous_image_is_the_reason_for_missing_pixel_values(files, tmp_path):
    scores, index, out = files
    redraw(np.zeros((48, 40), np.uint8), tmp_path / "bottle-6_mask.png", index)
    evaluate(scores, index, out)
    frame = pd.read_csv(out).set_index(["class_name", "level"])
    assert frame.loc[("bottle", "pixel"), "value"].isna().all()
    assert (frame.loc[("bottle", "pixel"), "reason"] == "the mask of 'bottle-6.png' is empty").all()
    assert (frame.loc[("mean", "pixel"), "reason"] == "bottle: the mask of 'bottle-6.png' is empty").all()
    assert frame.loc[("metal nut", "pixel"), "value"].notna().all()
    assert frame.loc[("bottle", "image"), "value"].notna().all()


def test_a_mask_too_fine_for_the_resolution_is_reported(files, tmp_path, caplog):
    scores, index, out = files
    dot = np.zeros((48, 40), np.uint8)
    dot[1, 1] = 255
    redraw(dot, tmp_path / "bottle-6_mask.png", index)
    evaluate(scores, index, out, resolution=8)
    assert "bottle-6.png: nothing is left of its mask at 8 x 8" in caplog.text
    assert np.isfinite(value(pd.read_csv(out), "bottle", "pixel", "auroc"))


def test_constant_maps_and_scores_have_chance_values(tmp_path):
    index = write_dataset(tmp_path)
    scores = write_scores(index, tmp_path / "scores.h5", np.full((18, GRID, GRID), 0.4), np.full(18, 0.4))
    evaluate(scores, index, tmp_path / "metrics.csv")
    frame = pd.read_csv(tmp_path / "metrics.csv")
    for level in ("image", "pixel"):
        assert value(frame, "mean", level, "auroc") == 0.5
    assert value(frame, "bottle", "image", "ap") == pytest.approx(BAD / (GOOD + BAD))
    assert value(frame, "bottle", "pixel", "aupro") == pytest.approx(0.15)
    assert (frame[frame["metric"] == "aupro_200"]["reason"] == "all scores equal").all()


def test_values_do_not_depend_on_the_batches(files, monkeypatch):
    scores, index, out = files
    evaluate(scores, index, out)
    monkeypatch.setattr("kanoclip.metrics.pixels.BATCH", 2)
    evaluate(scores, index, out.with_name("again.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(out), pd.read_csv(out.with_name("again.csv")), rtol=1e-6)


def test_intervals_thresholds_and_curves_are_written(files):
    scores, index, out = files
    evaluate(scores, index, out, bootstrap=50)
    frame = pd.read_csv(out)
    image = frame[frame["level"] == "image"]
    assert (image["low"] <= image["high"]).all()
    assert set(frame.loc[frame["threshold"].notna(), "metric"]) == {"f1_max", "f1_auxiliary", "fpr_auxiliary"}
    curves = pd.read_csv(out.with_name("curves.csv"))
    assert list(curves.columns) == ["class_name", "level", "curve", "x", "y"]
    for name in ("bottle", "metal nut"):
        roc = curves[(curves["class_name"] == name) & (curves["level"] == "image") & (curves["curve"] == "roc")]
        assert auc(roc["x"], roc["y"]) == pytest.approx(value(frame, name, "image", "auroc"), abs=1e-6)
