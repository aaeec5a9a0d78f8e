"""Test the content of grids of samples."""

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kanoclip.datasets.index import INDEX_COLUMNS, write_index
from kanoclip.maps import scaled_sigma, smooth, upsample
from kanoclip.report.figures.samples import qualitative, teaser
from kanoclip.report.grid import STEP
from kanoclip.report.heat import SIDE, colour_range
from kanoclip.report.style import PICTURES
from kanoclip.resampling import final_map_of
from kanoclip.types import InputError


@pytest.mark.parametrize(("masks", "rows"), [(True, ["image", "ground truth"]), (False, ["image"])])
def test_qualitative_has_a_row_per_method_and_a_column_per_sample(scored, shape, texts, draw_twice, masks, rows):
    index, scores = scored("toy", masks=masks)
    out = draw_twice(lambda path: qualitative(index, scores, path))
    assert shape(out) == [(4, len([*rows, "kanoclip", "clip"]))]
    assert {*rows, "kanoclip", "clip"} <= set(texts(out))
    assert ("ground truth" in texts(out)) == masks


def test_qualitative_shows_best_median_and_worst_by_the_first_method(scored, texts, tmp_path):
    index, scores = scored("toy", normal=3, anomalous=5)
    qualitative(index, scores, tmp_path / "figure.png")
    shown = texts(tmp_path / "figure.png")
    assert [text for text in shown if text in ("best", "median", "worst", "normal")] == [
        "best",
        "median",
        "worst",
        "normal",
    ]
    # the 8 scores are 0.1 to 0.8 in steps of 0.1, the last five anomalous; those of the second method are 0.01 higher
    assert {text for text in shown if re.fullmatch(r"0\.\d+", text)} == {
        "0.800", "0.600", "0.400", "0.200", "0.810", "0.610", "0.410", "0.210",
    }  # fmt: skip


@pytest.mark.parametrize(("normal", "anomalous", "columns"), [(0, 1, 1), (2, 1, 2), (1, 0, 1), (5, 0, 3), (1, 2, 3)])
def test_qualitative_shows_no_image_twice(scored, shape, tmp_path, normal, anomalous, columns):
    index, scores = scored("toy", masks=False, normal=normal, anomalous=anomalous)
    qualitative(index, scores, tmp_path / "figure.png")
    assert shape(tmp_path / "figure.png") == [(columns, 3)]


@pytest.mark.parametrize("counts", [{"normal": 4}, {"unlabelled": 4}])
def test_without_anomalous_images_samples_are_chosen_by_score(scored, shape, texts, tmp_path, counts):
    index, scores = scored("toy", masks=False, **{"normal": 0, "anomalous": 0} | counts)
    qualitative(index, scores, tmp_path / "figure.png")
    places = [
        text for text in texts(tmp_path / "figure.png") if text in ("highest", "median", "lowest", "best", "normal")
    ]
    assert places == ["highest", "median", "lowest"]
    teaser([(index, scores[0])], tmp_path / "teaser.png")
    assert shape(tmp_path / "teaser.png") == [(2, 2)]


def test_the_png_records_the_positions_of_its_pictures(scored, tmp_path):
    index, scores = scored("toy")
    qualitative(index, scores, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        band, bar = json.loads(image.info[PICTURES])
        pixels = np.asarray(image.convert("L"), dtype=int)
    left, top, width, height = band
    inside = np.zeros(pixels.shape, dtype=bool)
    for x, y, w, h in (band, bar):
        rows = slice(int(y * pixels.shape[0]), int(np.ceil((y + h) * pixels.shape[0])) + 2)
        inside[rows, int(x * pixels.shape[1]) : int(np.ceil((x + w) * pixels.shape[1])) + 2] = True
    assert (pixels[~inside] > 128).mean() > 0.95  # outside the pictures there is background and some text
    assert round(width * pixels.shape[1]) == 4 * STEP and round(height * pixels.shape[0]) == 4 * STEP
    assert left > 0 and top > 0


def test_equal_maps_can_be_drawn(scored, shape, tmp_path):
    index, scores = scored("toy")
    with h5py.File(scores[0], "a") as file:
        file["map"][:] = 0.5
    qualitative(index, scores, tmp_path / "figure.png")
    assert shape(tmp_path / "figure.png") == [(4, 4)]


def test_scores_of_other_images_are_refused_and_nothing_is_written(scored, tmp_path):
    index, scores = scored("toy")
    other, _ = scored("others", anomalous=6)
    with pytest.raises(InputError, match="8 images, .* lists 9"):
        qualitative(other, scores, tmp_path / "out" / "figure.png")
    assert not (tmp_path / "out").exists()


def test_teaser_puts_datasets_side_by_side(scored, shape, texts, draw_twice):
    pairs = [(index, scores[0]) for index, scores in (scored("toy"), scored("unmasked", masks=False))]
    out = draw_twice(lambda path: teaser(pairs, path))
    assert shape(out) == [(4, 3)]
    assert texts(out).count("toy") == texts(out).count("unmasked") == 2
    assert texts(out).count("no mask") == 2


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_maps_are_shown_as_they_are_evaluated(sigma):
    grid = np.random.default_rng(0).random((9, 9), dtype=np.float32)
    evaluated = smooth(upsample(torch.from_numpy(grid)[None], (SIDE, SIDE)), scaled_sigma(sigma, SIDE))[0]
    assert np.abs(final_map_of(grid, SIDE, sigma) - evaluated.numpy()).max() < 1e-5


def test_outliers_do_not_darken_the_other_maps_and_a_small_defect_stays_visible():
    ramp = np.linspace(0, 1, 10_000)
    assert colour_range(np.r_[ramp, [1e6] * 5]) == pytest.approx((0.01, 0.99), abs=1e-3)
    assert colour_range(np.r_[np.zeros(10_000), 0.7]) == (0, 0.7)
    low, high = colour_range(np.full(100, 0.5))
    assert low == 0.5 < high


def test_qualitative_has_the_columns_of_each_class_and_wraps(shape, texts, tmp_path):
    rows = []
    for name in ("bottle", "cable", "capsule", "carpet"):
        for number, label in enumerate((0, 1, 1, 1)):
            Image.new("RGB", (8, 8)).save(tmp_path / f"{name}{number}.png")
            rows.append((f"{name}{number}.png", "", name, label, "", "test"))
    write_index(pd.DataFrame(rows, columns=INDEX_COLUMNS), tmp_path / "index.csv")
    with h5py.File(tmp_path / "scores.h5", "w") as file:
        file.create_dataset("image", data=[row[0] for row in rows], dtype=h5py.string_dtype())
        file["map"] = np.random.default_rng(0).random((16, 2, 2), dtype=np.float32)
        file["image_score"] = np.arange(16, dtype=np.float32)
        file.attrs.update(method="clip", dataset="toy", sigma=0.0)
    qualitative(tmp_path / "index.csv", [tmp_path / "scores.h5"], tmp_path / "figure.png")
    assert shape(tmp_path / "figure.png") == [(12, 2), (4, 2)]
    shown = texts(tmp_path / "figure.png")
    assert [shown.count(name) for name in ("bottle", "carpet", "worst", "image")] == [4, 4, 4, 2]  # two bands
