"""The index file and the images and masks it points to."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_writers import save_image, save_mask
from PIL import Image

from kanoclip.datasets.images import load_image
from kanoclip.datasets.index import DIGEST_COLUMNS, INDEX_COLUMNS, content, read_index, write_index
from kanoclip.datasets.masks import load_mask
from kanoclip.types import InputError

COLUMNS = INDEX_COLUMNS + DIGEST_COLUMNS
ROWS = [
    ("../images/b.png", "../masks/b.png", "NA", 1, "hole", "test"),
    ("../images/a.png", "", "NA", 0, "good", "test"),
    ("../images/c.png", "", "bolt", 0, "good", "train"),
]


def frame(rows=ROWS):
    """Return rows with made-up digests, so their files need not exist."""
    digests = [(row[0].encode().hex()[:32].ljust(32, "0"), "ab" * 16 if row[1] else "") for row in rows]
    return pd.DataFrame([(*row, *pair) for row, pair in zip(rows, digests, strict=True)], columns=COLUMNS)


@pytest.fixture
def written(tmp_path):
    """Return an index of three images with digests computed by `write_index`."""
    for name in ("images/a.png", "images/b.png", "images/c.png"):
        save_image(tmp_path / name)
    save_mask(tmp_path / "masks/b.png")
    write_index(pd.DataFrame(ROWS, columns=INDEX_COLUMNS), tmp_path / "data/index.csv")
    return tmp_path / "data/index.csv"


def test_round_trip_keeps_values_and_finds_files(tmp_path):
    path = tmp_path / "data" / "index.csv"
    write_index(frame(), path)
    read = read_index(path)
    assert list(read[INDEX_COLUMNS].itertuples(index=False, name=None)) == [ROWS[1], ROWS[0]]
    assert list(read["image_path"]) == [str(tmp_path / "images" / name) for name in ("a.png", "b.png")]
    assert list(read["mask_path"]) == ["", str(tmp_path / "masks" / "b.png")]
    assert list(read_index(path, "train")["class_name"]) == ["bolt"]


def test_an_unknown_label_is_an_empty_cell(tmp_path):
    rows = [("a.png", "", "bolt", -1, "unlabelled", "test"), ("b.png", "", "bolt", 0, "good", "test")]
    write_index(frame(rows), tmp_path / "index.csv")
    assert pd.read_csv(tmp_path / "index.csv", dtype=str, keep_default_na=False)["label"].tolist() == ["", "0"]
    assert read_index(tmp_path / "index.csv")["label"].tolist() == [-1, 0]
    assert content(read_index(tmp_path / "index.csv")) != content(read_index(tmp_path / "index.csv").assign(label=0))


def test_order_of_rows_does_not_matter(tmp_path):
    write_index(frame(), tmp_path / "1.csv")
    write_index(frame(ROWS[::-1]), tmp_path / "2.csv")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("defect", "kind", 1), "expected the columns image,mask,.*found image,mask,"),
        (lambda text: text.replace(",1,hole", ",2,hole"), "line 3: '2' is not a valid label"),
        (lambda text: text.replace(",train", ",validation"), "'validation' is not a valid split"),
        (lambda text: text.replace(",test", ",train"), "no row of the split 'test'"),
        (lambda text: "", "expected a table in CSV, found another"),
        (lambda text: text.replace("abab", "ABAB"), "line 3: 'ABAB.*' is not a valid mask_digest; prepare the dataset"),
        (lambda text: text.replace(",test,2e", ",test,"), "line 2: .* is not a valid image_digest"),
        (lambda text: text.replace(",test,2e", ",test,zz"), "line 2: 'zz.*' is not a valid image_digest"),
        (lambda text: text.replace("../masks/b.png", ""), "line 3: 'abab.*' is not a valid mask_digest"),
    ],
)
def test_wrong_index_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "index.csv"
    write_index(frame(), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        read_index(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_digests_are_those_of_the_bytes_of_the_files(written, tmp_path):
    read = read_index(written)
    for column in ("image", "mask"):
        for path, found in zip(read[f"{column}_path"], read[f"{column}_digest"], strict=True):
            assert found == (hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32] if path else "")
    assert read["mask_digest"].map(len).tolist() == [0, 32]


def test_digests_of_missing_files_cannot_be_computed(tmp_path):
    with pytest.raises(InputError, match="b.png: no such image"):
        write_index(pd.DataFrame(ROWS, columns=INDEX_COLUMNS), tmp_path / "index.csv")
    assert not (tmp_path / "index.csv").exists()


def test_index_of_an_older_version_is_refused(tmp_path):
    pd.DataFrame(ROWS, columns=INDEX_COLUMNS).to_csv(tmp_path / "index.csv", index=False)
    with pytest.raises(InputError, match="an index of an older version; prepare the dataset again$"):
        read_index(tmp_path / "index.csv")


def test_content_ignores_location_and_times(written, tmp_path):
    before = content(read_index(written))
    shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy/images/a.png").touch()
    assert content(read_index(tmp_path / "copy/data/index.csv")) == before


@pytest.mark.parametrize("column", ["image", "class_name", "label", "defect", "image_digest", "mask_digest"])
def test_content_changes_with_every_relevant_value(written, column):
    read = read_index(written)
    changed = read.copy()
    changed.loc[0, column] = 1 if column == "label" else "0" * 32
    assert content(changed) != content(read)


def test_content_changes_with_the_order_and_the_number_of_rows(written):
    read = read_index(written)
    assert len({content(read), content(read[::-1]), content(read[:1])}) == 3


def test_the_error_on_a_missing_index_names_the_command(tmp_path):
    with pytest.raises(InputError, match="kanoclip prepare"):
        read_index(tmp_path / "index.csv")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_common_mode_is_converted_to_rgb(tmp_path, mode):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new(mode, (5, 3)).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (5, 3))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_file_is_refused_or_gives_all_pixels(tmp_path, suffix):
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


def test_one_bit_masks_are_read(tmp_path):
    expected = np.random.default_rng(0).random((7, 9)) > 0.5
    Image.fromarray(expected).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png", (9, 7)), expected)


def test_mask_of_another_size_is_refused(tmp_path):
    save_mask(tmp_path / "mask.png", (4, 6))
    with pytest.raises(InputError, match="mask.png: the mask is 4x6 pixels, its image 6x4"):
        load_mask(tmp_path / "mask.png", (6, 4))
