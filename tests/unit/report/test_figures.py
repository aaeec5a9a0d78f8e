"""Figures by what they show: an SVG of matplotlib has a group for each panel and its text in comments."""

import re

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kanoclip.maps import scaled_sigma, smooth, upsample
from kanoclip.report.figures import qualitative, teaser, training_curves
from kanoclip.report.grid import SIDE, colour_range, displayed_map
from kanoclip.types import InputError


def panels(png):
    return len(re.findall(r'id="axes_\d+"', png.with_suffix(".svg").read_text()))


def texts(png):
    return re.findall(r"<!-- (.*?) -->", png.with_suffix(".svg").read_text())


def draw_twice(draw, folder):
    """Draw a figure into two folders; every format must come out the same, byte for byte."""
    first, second = folder / "first" / "figure.png", folder / "second" / "figure.png"
    draw(first)
    draw(second)
    for suffix in (".png", ".pdf", ".svg"):
        assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()
    assert len(list(first.parent.iterdir())) == 3
    with Image.open(first) as image:
        image.load()
        assert min(image.size) > 200
    return first


@pytest.mark.parametrize(("masks", "rows"), [(True, ["image", "ground truth"]), (False, ["image"])])
def test_qualitative_has_a_row_a_method_and_a_column_a_sample(scored, tmp_path, masks, rows):
    index, scores = scored("toy", masks=masks)
    out = draw_twice(lambda path: qualitative(index, scores, path), tmp_path)
    assert panels(out) == 4 * len([*rows, "kanoclip", "clip"]) + 1  # and the colour bar
    assert {*rows, "kanoclip", "clip"} <= set(texts(out))
    assert ("ground truth" in texts(out)) == masks


def test_qualitative_shows_highest_median_and_lowest_by_the_first_method(scored, tmp_path):
    index, scores = scored("toy", normal=3, anomalous=5)
    qualitative(index, scores, tmp_path / "figure.png")
    shown = texts(tmp_path / "figure.png")
    for place in ("anomalous, highest", "anomalous, median", "anomalous, lowest", "normal, median"):
        assert place in shown
    # the 8 scores run from 0.1 to 0.8 in steps of 0.1, the last five are anomalous; the second method has 0.01 more
    assert {text for text in shown if re.fullmatch(r"0\.\d+", text)} == {
        "0.8", "0.6", "0.4", "0.2", "0.81", "0.61", "0.41", "0.21",
    }  # fmt: skip


@pytest.mark.parametrize(("normal", "anomalous", "columns"), [(0, 1, 1), (2, 1, 2), (2, 0, 1), (1, 2, 3)])
def test_qualitative_shows_no_image_twice(scored, tmp_path, normal, anomalous, columns):
    index, scores = scored("toy", masks=False, normal=normal, anomalous=anomalous)
    qualitative(index, scores, tmp_path / "figure.png")
    assert panels(tmp_path / "figure.png") == columns * 3 + 1


def test_equal_maps_can_be_drawn(scored, tmp_path):
    index, scores = scored("toy")
    with h5py.File(scores[0], "a") as file:
        file["map"][:] = 0.5
    qualitative(index, scores, tmp_path / "figure.png")
    assert panels(tmp_path / "figure.png") == 17


def test_scores_of_other_images_are_refused_and_nothing_is_written(scored, tmp_path):
    index, scores = scored("toy")
    other, _ = scored("others", anomalous=6)
    with pytest.raises(InputError, match="8 images, .* lists 9"):
        qualitative(other, scores, tmp_path / "out" / "figure.png")
    assert not (tmp_path / "out").exists()


def test_teaser_puts_datasets_side_by_side(scored, tmp_path):
    pairs = [(index, scores[0]) for index, scores in (scored("toy"), scored("unmasked", masks=False))]
    out = draw_twice(lambda path: teaser(pairs, path), tmp_path)
    assert panels(out) == 4 * 3 + 1
    assert texts(out).count("toy") == texts(out).count("unmasked") == 2
    assert texts(out).count("no mask") == 2


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_maps_are_shown_as_they_are_evaluated(sigma):
    grid = np.random.default_rng(0).random((9, 9), dtype=np.float32)
    evaluated = smooth(upsample(torch.from_numpy(grid)[None], (SIDE, SIDE)), scaled_sigma(sigma, SIDE))[0]
    assert np.abs(displayed_map(grid, sigma) - evaluated.numpy()).max() < 1e-5


def test_a_few_outliers_do_not_darken_all_else_and_a_small_defect_still_shows():
    ramp = np.linspace(0, 1, 10_000)
    assert colour_range(np.r_[ramp, [1e6] * 5]) == pytest.approx((0.01, 0.99), abs=1e-3)
    assert colour_range(np.r_[np.zeros(10_000), 0.7]) == (0, 0.7)
    low, high = colour_range(np.full(100, 0.5))
    assert low == 0.5 < high


def test_training_curves_have_a_panel_a_method(tmp_path):
    logs = {}
    for method, parts in {"kanoclip": ["total", "focal", "knowledge"], "april_gan": ["total", "focal"]}.items():
        logs[method] = [tmp_path / f"{method}{seed}.csv" for seed in range(2)]
        for seed, path in enumerate(logs[method]):
            frame = pd.DataFrame({"epoch": 0, "step": range(20)})
            for k, part in enumerate(parts):
                frame[f"loss_{part}"] = np.exp(-frame["step"] / 10) + k + 0.1 * seed
            frame.assign(seconds=1.0).to_csv(path, index=False)
    out = draw_twice(lambda path: training_curves(logs, path), tmp_path)
    assert panels(out) == 2
    assert {"kanoclip", "april_gan"} <= set(texts(out))
    assert (texts(out).count("focal"), texts(out).count("knowledge")) == (2, 1)
