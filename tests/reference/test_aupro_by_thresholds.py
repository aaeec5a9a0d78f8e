"""Compare AUPRO with brute force: a loop over all distinct thresholds, regions by flood fill, a numeric integral."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit

from kanoclip.metrics.aupro import aupro, region_weights
from kanoclip.metrics.counts import Counts, Levels, Truth
from kanoclip.metrics.ranking import rank


def regions_of(mask):
    """Return the 8-connected regions of a boolean mask as lists of pixels, by flood fill."""
    left = set(zip(*np.nonzero(mask), strict=True))
    regions = []
    while left:
        open_pixels = [left.pop()]
        region = []
        while open_pixels:
            row, column = open_pixels.pop()
            region.append((row, column))
            for neighbour in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    open_pixels.append(neighbour)
        regions.append(region)
    return regions


def aupro_by_thresholds(maps, masks, limit=0.3):
    """Return the AUPRO of (N, H, W) maps against (N, H, W) masks, interpolated at the limit and divided by it."""
    regions = [(i, region) for i, mask in enumerate(masks) for region in regions_of(mask)]
    normal = ~masks
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        hit = maps >= threshold
        rates.append(np.count_nonzero(hit & normal) / np.count_nonzero(normal))
        overlaps.append(np.mean([np.mean([hit[i, row, column] for row, column in region]) for i, region in regions]))
    area = 0.0
    for i in range(1, len(rates)):
        left, right, low, high = rates[i - 1], rates[i], overlaps[i - 1], overlaps[i]
        if right > limit:
            if left < limit:
                at_limit = low + (high - low) * (limit - left) / (right - left)
                area += (limit - left) * (low + at_limit) / 2
            break
        area += (right - left) * (low + high) / 2
    return area / limit


def aupro_of(maps, masks):
    weights = np.concatenate([region_weights(mask) for mask in masks])
    return aupro(rank(maps[masks], maps[~masks], weights))


def blobs(seed, n=4, size=24):
    """Return random smooth masks with several regions each, and maps equal to them plus noise."""
    generator = np.random.default_rng(seed)
    smooth = np.stack([ndimage.gaussian_filter(generator.normal(size=(size, size)), 1.5) for _ in range(n)])
    masks = smooth > np.quantile(smooth, 0.85)
    masks[0] = False  # a normal image
    return masks.astype(float) + generator.normal(0, 0.8, masks.shape), masks


@pytest.mark.parametrize("decimals", [6, 1, 0])
@pytest.mark.parametrize("seed", range(3))
def test_aupro_equals_the_loop_over_all_thresholds(seed, decimals):
    maps, masks = blobs(seed)
    maps = np.round(maps, decimals)  # 0 decimals: few distinct values, so one tie extends over the limit
    assert aupro_of(maps, masks) == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-9)


def test_saturated_maps_equal_the_loop_over_all_thresholds():
    maps, masks = blobs(7)
    maps = np.clip(maps, 0.2, 0.6)
    assert aupro_of(maps, masks) == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_counted_fp16_maps_equal_the_loop_over_all_thresholds(seed, shift):
    logits, masks = blobs(seed)
    maps = expit(4 * logits + shift).astype(np.float16).astype(np.float32)  # saturated and tied at 1
    counts = Counts(Levels.between(0.0, 1.0))
    counts.add(torch.from_numpy(maps), Truth.of(masks))
    assert aupro(counts.ranking()) == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-9)
