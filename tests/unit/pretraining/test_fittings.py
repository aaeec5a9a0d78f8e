"""Fittings are regular, the same in both images of a pair, and leave the defect visible."""

import numpy as np
import pytest

from kanoclip.datasets.synthetic import DEFECTS, TRAINING_KINDS
from kanoclip.datasets.synthetic.canvas import Canvas
from kanoclip.pretraining import fittings
from kanoclip.pretraining.corpus import drawn_pair
from kanoclip.pretraining.fittings import FITTINGS, LEAST_SEEN, fitted, fitted_pair

SIZE = 128


@pytest.fixture(scope="module")
def pairs():
    return [drawn_pair(tuple(TRAINING_KINDS), tuple(DEFECTS), 0, number) for number in range(40)]


@pytest.mark.parametrize("add", FITTINGS)
def test_a_fitting_covers_a_part_of_a_surface(add):
    plain = np.full((SIZE, SIZE, 3), 0.45, np.float32)
    covered = []
    for seed in range(20):
        changed = add(Canvas(np.random.default_rng(seed), SIZE), plain, plain)
        assert changed.shape == plain.shape and np.isfinite(changed).all()
        covered.append((np.abs(changed - plain).max(axis=2) > 0.02).mean())
    assert max(covered) < 0.8
    assert np.median(covered) > 0.005  # a hole that shows the colour of the surface itself is invisible


def test_a_hole_is_round_and_has_the_area_of_its_radius():
    plain = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    radius = 0.25  # of half the image
    black, rim = np.zeros(3, np.float32), (0.02, 0.0)
    drilled = fittings._hole(Canvas(np.random.default_rng(0), SIZE), plain, (0.1, -0.2), radius, 0.0, black, rim)
    area = (1 - drilled[..., 0] / 0.5).sum()  # pixels, edges by their coverage
    assert area == pytest.approx(np.pi * (radius * SIZE / 2) ** 2, rel=0.01)
    rows, columns = np.nonzero(drilled[..., 0] < 0.25)
    assert np.mean(columns) == pytest.approx((0.1 + 1) * SIZE / 2 - 0.5, abs=0.3)
    assert np.mean(rows) == pytest.approx((-0.2 + 1) * SIZE / 2 - 0.5, abs=0.3)


def test_both_images_get_the_same_fittings_and_the_defect_stays_visible(pairs):
    changed = 0
    for number, pair in enumerate(pairs):
        (first, second), mask = fitted(pair.images, pair.mask, (1, number))
        assert first.dtype == second.dtype == np.uint8 and mask.dtype == np.bool_
        np.testing.assert_array_equal(first[~mask], second[~mask])
        assert not (mask & ~pair.mask).any()
        assert mask.sum() >= LEAST_SEEN * pair.mask.sum()
        changed += not np.array_equal(first, pair.images[0])
    assert changed > 30


def test_fittings_that_cover_the_defect_are_left_out():
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    mask, everywhere = np.zeros((2, SIZE, SIZE), np.bool_)
    mask[60:64, 60:64] = True
    everywhere[6:] = True  # without the corner whose colour some holes have
    other = np.where(everywhere[..., None], np.uint8(200), image)
    spoilt = np.where(mask[..., None], other, image)
    left_out = 0
    for seed in range(60):
        # a fitting covers what no longer differs between the images of a pair that differs everywhere
        covered = everywhere & ~fitted((image, other), everywhere, (seed,))[1]
        (first, second), seen = fitted((image, spoilt), mask, (seed,))
        if (mask & covered).sum() > (1 - LEAST_SEEN) * mask.sum():
            assert np.array_equal(first, image) and np.array_equal(second, spoilt)
            assert np.array_equal(seen, mask)
            left_out += 1
        else:
            assert seen.sum() >= LEAST_SEEN * mask.sum()
    assert 0 < left_out < 30


def test_the_pairs_depend_on_seed_and_number_alone():
    kinds, defects = tuple(TRAINING_KINDS), tuple(DEFECTS)
    fitted_ones = 0
    for number in range(30):
        one, again = (fitted_pair(kinds, defects, 5, number) for _ in range(2))
        np.testing.assert_array_equal(one.images, again.images)
        fitted_ones += not np.array_equal(one.images[0], drawn_pair(kinds, defects, 5, number).images[0])
    assert 3 <= fitted_ones <= 18  # FITTED of 30
