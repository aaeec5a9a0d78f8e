"""Tiles cover an image, blend without seams, and give the untiled map of a local method."""

import numpy as np
import pytest
from PIL import Image

from kanoclip.tiles import blend, score_by_tiles, tile_boxes
from kanoclip.types import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(7, 5), (64, 64), (65, 64), (200, 131), (1000, 40)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (64, 63), (10, 3)])
def test_tiles_cover_the_image_and_share_at_least_the_overlap(size, tile, overlap):
    boxes = tile_boxes(size, tile, overlap)
    covered = np.zeros(size[::-1], int)
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (min(tile, size[0]), min(tile, size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.shape == size[::-1] and covered.min() > 0
    for low, high in ((0, 2), (1, 3)):
        spans = sorted({(box[low], box[high]) for box in boxes})
        assert all(end - start >= overlap for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def brightness(tiles):
    """Score by brightness: the map at a pixel depends on that pixel alone, so tiles cannot change it."""
    maps = [np.asarray(tile.convert("L"), float) / 255 for tile in tiles]
    return maps, [values.mean() for values in maps]


@pytest.mark.parametrize("overlap", [0, 1, 20])
def test_tiles_do_not_change_the_map_of_a_local_method(overlap):
    image = Image.fromarray(RNG.integers(0, 256, (90, 130, 3), dtype=np.uint8))
    found, score = score_by_tiles(image, 48, overlap, brightness, batch_size=3)
    (expected,), _ = brightness([image])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    parts = [expected[top:bottom, left:right] for left, top, right, bottom in tile_boxes(image.size, 48, overlap)]
    assert score == max(part.mean() for part in parts)


def test_an_image_that_fits_in_one_tile_is_a_single_tile():
    image = Image.fromarray(RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    seen = []

    def score(tiles):
        seen.extend(tiles)
        return [RNG.random((40, 48))], [0.25]

    found, value = score_by_tiles(image, 48, 8, score)
    assert len(seen) == 1 and seen[0].tobytes() == image.tobytes() and value == 0.25
    assert found.shape == (40, 48)


def test_coarse_maps_are_upsampled_to_their_tiles():
    found = blend([np.full((3, 2), 0.5), np.full((5, 5), 0.5)], tile_boxes((10, 4), 6, 2), 2)
    np.testing.assert_allclose(found, np.full((4, 10), 0.5))


def test_the_map_changes_gradually_between_two_tiles():
    found = blend([np.zeros((8, 8)), np.ones((8, 8))], tile_boxes((12, 8), 8, 4), 4)
    np.testing.assert_allclose(found[0], [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (8, 8), (8, -1)])
def test_invalid_tile_sizes_and_overlaps_are_refused(tile, overlap):
    with pytest.raises(InputError, match=f"found tile {tile}, overlap {overlap}"):
        tile_boxes((20, 20), tile, overlap)
