import base64
import io

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from kanoclip.datasets.index import read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.report.gallery import (
    CORRECT,
    FALSE_ALARM,
    MISSED,
    MORE,
    SIDE,
    UNJUDGED,
    choose,
    f1_threshold,
    judge,
    read_gallery,
)
from kanoclip.report.heat import COLOURS, colour_range
from kanoclip.types import InputError


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def rewrite(scores, **arrays):
    """Replace arrays of a scores.h5; None removes one."""
    with h5py.File(scores, "a") as file:
        for name, values in arrays.items():
            del file[name]
            if values is not None:
                file[name] = np.asarray(values, dtype=np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_gives_a_higher_f1(seed):
    generator = np.random.default_rng(seed)
    labels, scores = generator.integers(0, 2, 30), generator.integers(0, 8, 30) / 8
    f1 = {score: f1_score(labels, scores >= score) for score in np.unique(scores)}
    best = max(f1.values())
    assert f1_threshold(labels, scores) == max(score for score in f1 if np.isclose(f1[score], best))


def test_images_of_one_label_have_no_threshold_and_no_mistakes():
    labels, scores = np.array([1, 1]), np.array([0.1, 0.9])
    assert f1_threshold(labels, scores) is None
    assert judge(labels, scores, None).tolist() == [UNJUDGED, UNJUDGED]
    assert judge(np.array([1, -1]), scores, 0.5).tolist() == [MISSED, UNJUDGED]


def test_scores_at_or_above_the_threshold_are_called_anomalous():
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.5, 0.4, 0.5, 0.4])
    assert judge(labels, scores, 0.5).tolist() == [CORRECT, MISSED, FALSE_ALARM, CORRECT]


def test_mistakes_are_first_and_then_the_highest_scores():
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.7, 0.3, 0.2, 0.9, 0.6])
    mistakes = judge(labels, scores, 0.5) != CORRECT
    assert choose(labels, scores, mistakes, 9).tolist() == [1, 3, 4, 5, 2, 0]
    assert choose(labels, scores, mistakes, 2).tolist() == [1, 3]


def test_the_worst_mistakes_are_shown_and_the_others_span_the_scores():
    labels = np.array([0] * 20 + [1] * 20)
    scores = np.r_[np.arange(20), np.arange(20) + 0.5] / 20  # ten of each label are on the wrong side of 0.5
    mistakes = judge(labels, scores, 0.5) != CORRECT
    assert choose(labels, scores, mistakes, 6).tolist() == [19, 18, 17, 22, 21, 20]
    shown = choose(labels, scores, mistakes, 24)
    assert set(np.flatnonzero(mistakes)) == set(shown[:20])
    assert shown[20:].tolist() == [39, 30, 9, 0]


@pytest.mark.parametrize(
    ("anomalous", "normal", "expected"), [(9, 9, (3, 2)), (1, 9, (1, 4)), (9, 0, (5, 0)), (2, 1, (2, 1))]
)
def test_each_label_gets_half_of_the_tiles_or_those_that_the_other_leaves(anomalous, normal, expected):
    labels = np.r_[np.ones(anomalous, int), np.zeros(normal, int)]
    shown = choose(labels, np.linspace(0, 1, len(labels)), np.zeros(len(labels), bool), 5)
    assert len(set(shown)) == len(shown)
    assert (labels[shown].sum(), (1 - labels[shown]).sum()) == expected


def test_pictures_are_those_of_the_index_and_stored_once(scored):
    index, scores = scored("parts")
    view = read_gallery([(index, path) for path in scores], count=100)["parts"]
    assert list(view.methods) == ["kanoclip", "clip"]
    assert view.masks
    rows = read_index(index)
    assert sorted(view.pictures) == rows.index.tolist()
    for row, mask in enumerate(masks_at(rows, SIDE)):
        shown = view.pictures[row]
        assert (shown.file, shown.defect) == (f"parts/{rows['image'][row]}", rows["defect"][row])
        assert shown.anomalous == bool(rows["label"][row])
        assert pixels(shown.image).shape == (SIDE, SIDE, 3)
        if rows["label"][row]:
            np.testing.assert_array_equal(pixels(shown.mask), mask)
        else:
            assert shown.mask is None


def test_counts_are_of_the_class_not_of_the_shown_images(scored):
    index, (scores, _) = scored("parts", normal=4, anomalous=4)
    rewrite(scores, image_score=[0.9, 0.8, 0.2, 0.1, 0.95, 0.85, 0.8, 0.05])
    method = read_gallery([(index, scores)], count=2)["parts"].methods["kanoclip"]
    assert method.threshold == pytest.approx(0.8)  # 3 of 4 found with 2 false alarms: F1 = 6 / 9
    shown = method.classes["metal nut"]
    assert (shown.images, shown.missed, shown.false_alarms) == (8, 1, 2)
    assert [(tile.row, tile.verdict) for tile in shown.tiles] == [(0, FALSE_ALARM), (7, MISSED)]


def test_without_labels_the_highest_scores_are_shown_without_verdicts(scored):
    index, (scores, _) = scored("parts", normal=0, anomalous=0, unlabelled=9)
    values = np.random.default_rng(0).permutation(9) / 9
    values[values == values.max()] = values.min()  # the last two are tied
    rewrite(scores, image_score=values)
    view = read_gallery([(index, scores)], count=2)["parts"]
    shown = view.methods["kanoclip"].classes["metal nut"]
    assert (shown.images, shown.missed, shown.false_alarms) == (9, 0, 0)
    best = sorted(values.astype(np.float32), reverse=True)[: 2 * MORE]
    assert [tile.score for tile in shown.tiles] == best
    assert [tile.rank for tile in shown.tiles] == list(range(1, 1 + 2 * MORE))
    assert {tile.verdict for tile in shown.tiles} == {UNJUDGED}
    assert {picture.anomalous for picture in view.pictures.values()} == {None}
    everything = read_gallery([(index, scores)], count=3)["parts"].methods["kanoclip"].classes["metal nut"]
    assert [tile.rank for tile in everything.tiles][-2:] == [8, 8]  # equal scores share the higher rank


def test_heat_maps_of_a_method_share_one_colour_scale(scored):
    index, (scores, _) = scored("parts")
    values = np.linspace(0.2, 0.9, 8)
    rewrite(scores, map=np.broadcast_to(values[:, None, None], (8, 4, 4)))
    method = read_gallery([(index, scores)], count=8)["parts"].methods["kanoclip"]
    low, high = colour_range(np.broadcast_to(values[:, None, None], (8, SIDE, SIDE)))
    assert method.scale == pytest.approx((low, high))
    for tile in method.classes["metal nut"].tiles:
        expected = 255 * np.array(COLOURS((values[tile.row] - low) / (high - low))[:3])
        np.testing.assert_allclose(pixels(tile.heat).mean((0, 1)), expected, atol=6)  # WebP is slightly lossy


def test_without_masks_and_maps_the_images_are_shown(scored):
    index, (scores, _) = scored("parts", masks=False)
    rewrite(scores, map=None)
    view = read_gallery([(index, scores)], count=4)["parts"]
    method = view.methods["kanoclip"]
    assert not view.masks
    assert {shown.mask for shown in view.pictures.values()} == {None}
    assert method.scale is None
    assert [tile.heat for tile in method.classes["metal nut"].tiles] == [None] * 4


def test_a_method_given_twice_is_refused(scored):
    index, (scores, _) = scored("parts")
    with pytest.raises(InputError, match=r"kanoclip\.h5: kanoclip on parts is given twice"):
        read_gallery([(index, scores), (index, scores)], count=4)


def test_classes_are_shown_separately(scored):
    index, (scores, _) = scored("parts")
    text = (
        index.read_text()
        .replace("0.png,,metal nut", "0.png,,a bolt")
        .replace("7.png,7m.png,metal nut", "7.png,7m.png,a bolt")
    )
    index.write_text(text)
    classes = read_gallery([(index, scores)], count=8)["parts"].methods["kanoclip"].classes
    assert {name: sorted(tile.row for tile in shown.tiles) for name, shown in classes.items()} == {
        "a bolt": [0, 7],
        "metal nut": [1, 2, 3, 4, 5, 6],
    }
