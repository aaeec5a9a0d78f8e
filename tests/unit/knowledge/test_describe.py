"""Test the describer on drawn images with known defects."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer

from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.knowledge.describe import COLOURS, cielab, colour_name, describe, shape_name

SIDE = 90
PLACES = ["top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"]


def box(top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def painted(
    mask: NDArray[np.bool_],
    colour: tuple[int, int, int] = (0, 0, 0),
    ground: tuple[int, int, int] = (255, 255, 255),
) -> NDArray[np.uint8]:
    image = np.full((*mask.shape, 3), ground, np.uint8)
    image[mask] = colour
    return image


def told(mask: NDArray[np.bool_], **colours: tuple[int, int, int]) -> str:
    return describe(painted(mask, **colours), mask, "nut")


def test_the_complete_sentence() -> None:
    assert told(box(35, 65, 6, 6), colour=(205, 35, 35), ground=(128, 128, 128)) == (
        "There is a small, compact, red anomaly on the nut, at the right of the image, "
        "darker than the grey surroundings."
    )
    assert told(box(5, 5, 9, 9) | box(60, 60, 15, 15)) == (
        "There are two medium, compact, black anomalies on the nut, the largest at the bottom right of the image, "
        "darker than the white surroundings."
    )


@pytest.mark.parametrize(("row", "column"), list(product(range(3), range(3))))
def test_the_place_is_described(row: int, column: int) -> None:
    sentence = told(box(10 + 30 * row, 10 + 30 * column, 9, 9))
    assert f", at the {PLACES[3 * row + column]} of the image, " in sentence


@pytest.mark.parametrize(
    ("width", "size"), [(8, "small"), (10, "medium"), (19, "medium"), (21, "large"), (90, "large")]
)
def test_the_size_is_described(width: int, size: str) -> None:
    """The size is the share of the image: 1 % is 9 x 9 pixels here, 5 % is 20 x 20."""
    assert told(box(0, 0, width, width)).startswith(f"There is a {size}, ")


def test_the_number_of_regions_is_described() -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for number in range(1, 13):
        mask |= box(20 * (number % 4), 20 * (number // 4), 5, 5)
        words = ["a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        word = words[number - 1] if number <= 10 else "more than ten"
        verb = "is" if number == 1 else "are"
        assert told(mask).startswith(f"There {verb} {word} ")


def test_a_speck_beside_a_large_region_is_not_counted() -> None:
    assert told(box(10, 10, 20, 20) | box(80, 80, 2, 2)).startswith("There is a ")
    assert told(box(10, 10, 20, 20) | box(80, 80, 3, 3)).startswith("There are two ")


def test_corners_that_touch_are_one_region() -> None:
    assert told(box(10, 10, 5, 5) | box(15, 15, 5, 5)).startswith("There is a ")


y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
disc = np.hypot(x, y) < 12


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        (disc, "compact"),
        (box(10, 10, 9, 20), "compact"),
        (box(10, 10, 9, 30), "elongated"),
        (box(10, 10, 40, 3), "elongated"),
        (np.abs(x - y) < 2, "elongated"),
        (box(40, 40, 1, 1), "compact"),
        (disc & (np.hypot(x, y) > 9), "irregular"),
        ((np.abs(x) < 2) | (np.abs(y) < 2), "irregular"),
    ],
    ids=["disc", "box", "long box", "bar", "diagonal", "pixel", "ring", "cross"],
)
def test_the_shape_is_described(mask: NDArray[np.bool_], shape: str) -> None:
    assert shape_name(*np.nonzero(mask)) == shape
    assert f", {shape}, " in told(mask)


def test_scattered_needs_several_regions_of_similar_size() -> None:
    specks = box(10, 10, 6, 6) | box(10, 60, 6, 6) | box(60, 30, 6, 6)
    assert ", scattered, " in told(specks)
    assert ", compact, " in told(specks | box(60, 60, 15, 15))
    assert ", compact, " in told(box(10, 10, 6, 6) | box(10, 60, 6, 6))


@pytest.mark.parametrize("name", COLOURS)
def test_colours_close_to_a_named_colour_get_its_name(name: str) -> None:
    for shift in (-6, 0, 6):
        assert colour_name(np.clip(np.array(COLOURS[name]) + shift, 0, 255).astype(float)) == name


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_cielab_equals_published_values(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(cielab(np.array(rgb)), lab, atol=0.05)


@pytest.mark.parametrize(
    ("colour", "ground", "words"),
    [
        ((40, 40, 40), (128, 128, 128), "darker than the grey surroundings"),
        ((230, 230, 230), (128, 128, 128), "lighter than the grey surroundings"),
        ((128, 128, 128), (132, 132, 132), "hardly different in colour from the grey surroundings"),
        ((178, 96, 96), (119, 119, 119), "as bright as the grey surroundings but of another colour"),
    ],
)
def test_the_contrast_is_described(colour: tuple[int, int, int], ground: tuple[int, int, int], words: str) -> None:
    assert told(disc, colour=colour, ground=ground).endswith(f", {words}.")


def test_only_the_near_surroundings_matter() -> None:
    """Only pixels around the mask count as its surroundings; the rest of the image can differ."""
    image = painted(np.hypot(x, y) > 25, (0, 0, 0), (128, 128, 128))
    image[disc] = (60, 60, 60)
    assert describe(image, disc, "nut").endswith(", darker than the grey surroundings.")


def test_a_mask_over_the_whole_image_has_no_surroundings() -> None:
    assert told(np.ones((SIDE, SIDE), dtype=bool)) == (
        "There is a large, compact, black anomaly on the nut, at the centre of the image."
    )


def test_images_that_are_not_square() -> None:
    mask = np.zeros((20, 200), dtype=bool)
    mask[5:15, 150:160] = True
    assert ", at the right of the image, " in told(mask)


def test_the_longest_sentence_fits_in_clips_context() -> None:
    name = max((cls for name in dataset_names() for cls in load_spec(name).class_names.values()), key=len)
    specks = [(20 * (number % 4), 45 + 15 * (number // 4)) for number in range(12)]
    mask = sum((box(row, column, 4, 4) for row, column in specks), np.zeros((SIDE, SIDE), dtype=bool)) > 0
    sentence = describe(painted(mask, (190, 180, 190), (60, 190, 190)), mask, name)
    assert "more than ten" in sentence and "scattered" in sentence
    contrast = sentence[sentence.rindex(", ") :]
    longest = sentence.replace(contrast, ", hardly different in colour from the light grey surroundings.")
    assert len(SimpleTokenizer().encode(longest)) + 2 <= 77
