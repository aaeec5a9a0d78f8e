"""The index file and the images and masks it points to."""

import numpy as np
import pandas as pd
import pytest
from layout_writers import save_image, save_mask
from PIL import Image

from kanoclip.datasets.index import INDEX_COLUMNS, load_image, load_mask, read_index, write_index
from kanoclip.types import InputError

ROWS = [
    ("../images/b.png", "../masks/b.png", "NA", 1, "hole", "test"),
    ("../images/a.png", "", "NA", 0, "good", "test"),
    ("../images/c.png", "", "bolt", 0, "good", "train"),
]


def frame(rows=ROWS):
    return pd.DataFrame(rows, columns=INDEX_COLUMNS)


def test_round_trip_keeps_values_and_finds_files(tmp_path):
    path = tmp_path / "data" / "index.csv"
    write_index(frame(), path)
    read = read_index(path)
    assert list(read[INDEX_COLUMNS].itertuples(index=False, name=None)) == [ROWS[1], ROWS[0]]
    assert list(read["image_path"]) == [str(tmp_path / "images" / name) for name in ("a.png", "b.png")]
    assert list(read["mask_path"]) == ["", str(tmp_path / "masks" / "b.png")]
    assert list(read_index(path, "train")["class_name"]) == ["bolt"]


def test_order_of_rows_does_not_matter(tmp_path):
    write_index(frame(), tmp_path / "1.csv")
    write_index(frame(ROWS[::-1]), tmp_path / "2.csv")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("defect", "kind", 1), "expected the columns image,mask,.*found image,mask,"),
        (lambda text: text.replace(",1,hole", ",2,hole"), "line 3: '2' is no valid label"),
        (lambda text: text.replace(",train", ",validation"), "'validation' is no valid split"),
        (lambda text: text.replace(",test", ",train"), "no row of the split 'test'"),
        (lambda text: "", "not a CSV file"),
    ],
)
def test_wrong_index_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "index.csv"
    write_index(frame(), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        read_index(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_missing_index_names_the_command(tmp_path):
    with pytest.raises(InputError, match="kanoclip prepare"):
        read_index(tmp_path / "index.csv")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_common_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new(mode, (5, 3)).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))


def test_sixteen_bits_are_refused_rather_than_saturated(tmp_path):
    Image.fromarray(np.full((3, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="deep.png: expected 8 bits"):
        load_image(tmp_path / "deep.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_cut_file_is_refused_or_has_lost_no_pixel(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    save_image(path, (24, 16))
    content, pixels = path.read_bytes(), np.asarray(load_image(path))
    refused = 0
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(np.asarray(load_image(path)), pixels)
        except InputError as error:
            assert str(error).startswith(f"{path}: not a whole image")
            refused += 1
    assert refused > 0.9 * len(content) / 7


@pytest.mark.parametrize("value", [1, 3, 128, 255])
def test_mask_counts_every_value_above_zero(tmp_path, value):
    save_mask(tmp_path / "mask.png", (6, 4), value)
    expected = np.zeros((4, 6), bool)
    expected[:, :3] = True
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png", (6, 4)), expected)


def test_one_bit_mask(tmp_path):
    expected = np.random.default_rng(0).random((7, 9)) > 0.5
    Image.fromarray(expected).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png", (9, 7)), expected)


def test_mask_of_another_size_is_refused(tmp_path):
    save_mask(tmp_path / "mask.png", (4, 6))
    with pytest.raises(InputError, match="mask.png: the mask is 4x6 pixels, its image 6x4"):
        load_mask(tmp_path / "mask.png", (6, 4))
