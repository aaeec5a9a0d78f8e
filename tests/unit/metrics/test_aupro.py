import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc

from kanoclip.metrics.aupro import aupro, aupro_200, region_weights
from kanoclip.metrics.classification import auroc
from kanoclip.metrics.ranking import UndefinedMetricError, rank


def ranked(maps, masks):
    return rank(maps[masks], maps[~masks], np.concatenate([region_weights(mask) for mask in masks]))


def aupro_of(maps, masks):
    return aupro(ranked(maps, masks))


def published_loop(maps, masks, steps=200, limit=0.3):
    """Follow the protocol of released code: regions per threshold, rates stretched to 0..1."""
    curve = []
    for threshold in (maps.min() + (maps.max() - maps.min()) * step / steps for step in range(steps)):
        found = maps > threshold
        overlaps = []
        for found_here, mask in zip(found, masks, strict=True):
            labelled, count = ndimage.label(mask, np.ones((3, 3)))
            overlaps += [found_here[labelled == region].mean() for region in range(1, count + 1)]
        curve.append((np.sum(found & ~masks) / np.sum(~masks), np.mean(overlaps)))
    rates, overlaps = np.array([point for point in curve if point[0] < limit]).T
    return auc((rates - rates.min()) / (rates.max() - rates.min()), overlaps)


def scattered_masks():
    """Return the masks (3, 24, 24) of two anomalous images with several regions each and a normal image."""
    masks = np.random.default_rng(0).random((3, 24, 24)) > 0.8
    masks[2] = False
    return masks


def test_perfect_maps_have_one_and_inverted_maps_zero():
    masks = scattered_masks()
    assert aupro_of(masks.astype(float), masks) == 1.0
    assert aupro_of(1.0 - masks, masks) == 0.0


def test_a_constant_map_has_the_area_below_the_diagonal():
    masks = scattered_masks()
    assert aupro_of(np.full(masks.shape, 0.5), masks) == pytest.approx(0.15)  # (0.3^2 / 2) / 0.3


def test_regions_have_equal_weight_whatever_their_size():
    mask = np.zeros((1, 10, 10), dtype=bool)
    mask[0, 0, 0] = True  # 1 pixel, found
    mask[0, 4:8, 4:8] = True  # 16 pixels, below every normal pixel
    maps = np.where(mask, -1.0, 0.0)
    maps[0, 0, 0] = 1.0
    assert aupro_of(maps, mask) == pytest.approx(0.5)
    assert auroc(rank(maps[mask], maps[~mask])) == pytest.approx(1 / 17)


def test_pixels_that_touch_at_a_corner_form_one_region():
    mask = np.array([[True, False, False], [False, True, False], [False, False, False]])
    assert region_weights(mask).tolist() == [0.5, 0.5]


def test_weights_sum_to_the_number_of_regions():
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0:3] = mask[5:8, 5:8] = mask[7, 0] = True
    assert region_weights(mask).sum() == pytest.approx(3)
    assert region_weights(np.zeros((4, 4), dtype=bool)).size == 0


def test_only_the_order_of_scores_matters():
    masks = scattered_masks()
    maps = masks + np.random.default_rng(1).normal(size=masks.shape)
    assert aupro_of(np.exp(maps), masks) == pytest.approx(aupro_of(maps, masks), abs=1e-12)
    order = [2, 0, 1]
    assert aupro_of(maps[order], masks[order]) == pytest.approx(aupro_of(maps, masks), abs=1e-12)


@pytest.mark.parametrize("decimals", [9, 2])
@pytest.mark.parametrize("power", [1, 20])
def test_200_thresholds_equal_the_published_loop(power, decimals):
    masks = scattered_masks()
    maps = np.random.default_rng(2).random(masks.shape) + 0.3 * masks
    # the power of 20 moves most pixels below the second threshold
    maps = np.round(maps / maps.max(), decimals) ** power
    assert aupro_200(ranked(maps, masks)) == pytest.approx(published_loop(maps, masks), abs=1e-9)


def test_200_thresholds_depend_on_the_scale_of_scores_and_the_exact_curve_does_not():
    masks = scattered_masks()
    maps = np.random.default_rng(3).random(masks.shape) + 0.3 * masks
    assert aupro_of(maps**20, masks) == pytest.approx(aupro_of(maps, masks), abs=1e-12)
    assert abs(aupro_200(ranked(maps**20, masks)) - aupro_200(ranked(maps, masks))) > 0.001


def test_200_thresholds_give_a_reason_where_published_code_divides_by_zero():
    masks = scattered_masks()
    with pytest.raises(UndefinedMetricError, match="all scores equal"):
        aupro_200(ranked(np.full(masks.shape, 0.5), masks))
    with pytest.raises(UndefinedMetricError, match="fewer than two of 200 thresholds"):
        aupro_200(ranked(masks.astype(float), masks))


def test_there_are_200_thresholds_whatever_the_last_bit_of_the_range():
    """With np.arange(low, high, (high - low) / 200) some of these ranges have 201, whose last point is (0, 0).

    Every tenth pixel is saturated, so the other points begin at a false positive rate of about 0.1.
    """
    masks = scattered_masks()
    generator = np.random.default_rng(4)
    shape = generator.random(masks.shape)
    shape = np.where(shape > 0.9, 1, shape)
    shape[0, 0, 0] = 0
    ranges = [(low, low + width) for low, width in generator.random((200, 2))]
    assert {np.arange(low, high, (high - low) / 200).size for low, high in ranges} == {200, 201}
    assert np.ptp([aupro_200(ranked(low + (high - low) * shape, masks)) for low, high in ranges]) < 0.01
