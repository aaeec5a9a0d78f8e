"""Test layouts beyond the official ones: users' own folders, and wrong folders."""

import shutil

import pytest
from layout_writers import Written, save_image, save_mask, write

from kanoclip.datasets.layouts import LAYOUTS, layout, read_layout
from kanoclip.datasets.specs import folder_spec, load_spec
from kanoclip.types import InputError


def rows_of(root, name="mine", class_names=None):
    rows = read_layout(root, folder_spec(name, class_names or {}))
    return {
        (row.folder, row.image.relative_to(root).as_posix()): (
            row.label,
            row.defect,
            row.split,
            row.mask.relative_to(root).as_posix() if row.mask else "",
        )
        for row in rows
    }


def test_mvtec_layout_with_either_name_of_masks(tmp_path):
    out = Written(tmp_path)
    out.image("bolt/train/good/1.jpg", "bolt", split="train")
    out.image("bolt/test/good/1.jpg", "bolt")
    out.image("bolt/test/crack/1.jpg", "bolt", "crack", "bolt/ground_truth/crack/1_mask.png")
    out.image("bolt/test/crack/2.tif", "bolt", "crack", "bolt/ground_truth/crack/2.png")
    out.image("nut/test/good/a.b.jpeg", "nut")
    out.image("nut/test/dent/a.b.bmp", "nut", "dent", "nut/ground_truth/dent/a.b_mask.png")
    out.text("nut/test/dent/notes.txt", "")
    save_image(tmp_path / "nut/test/dent/._a.png")
    assert rows_of(tmp_path) == out.rows


@pytest.mark.parametrize("masks", ["ground_truth", "masks"])
def test_good_and_other_folders_can_be_directly_in_each_class(tmp_path, masks):
    out = Written(tmp_path)
    out.image("bolt/good/1.PNG", "bolt")
    out.image("bolt/crack/1.PNG", "bolt", "crack", f"bolt/{masks}/crack/1.png")
    out.image("bolt/train/good/1.png", "bolt", split="train")
    out.image("nut/good/1.png", "nut")
    assert rows_of(tmp_path) == out.rows


@pytest.mark.parametrize("inner", ["", "test/"])
def test_a_single_class_is_named_after_the_dataset(tmp_path, inner):
    out = Written(tmp_path)
    out.image(f"{inner}good/1.png", "bolts")
    out.image(f"{inner}bad/1.png", "bolts", "bad")
    assert rows_of(tmp_path, "bolts") == out.rows


def test_masks_pair_by_stem_not_by_order(tmp_path):
    out = Written(tmp_path)
    out.image("bolt/good/1.png", "bolt")
    out.image("bolt/crack/1.png", "bolt", "crack")
    out.image("bolt/crack/2.png", "bolt", "crack", "bolt/masks/crack/2.png")
    assert rows_of(tmp_path) == out.rows


def test_masks_without_an_image_are_refused(tmp_path):
    save_image(tmp_path / "bolt/good/1.png")
    save_image(tmp_path / "bolt/crack/1.png")
    save_mask(tmp_path / "bolt/masks/crack/one.png")
    with pytest.raises(InputError, match="one.png: a mask without an image"):
        rows_of(tmp_path)


def test_masks_of_volumes_pair_with_their_images(tmp_path):
    for name in (
        "good/1.nii.gz",
        "tumour/1.nii.gz",
        "tumour/2.NII.GZ",
        "masks/tumour/1_mask.nii.gz",
        "masks/tumour/2.png",
    ):
        (tmp_path / "brain" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "brain" / name).touch()
    assert {image: row[3] for (_, image), row in rows_of(tmp_path).items()} == {
        "brain/good/1.nii.gz": "",
        "brain/tumour/1.nii.gz": "brain/masks/tumour/1_mask.nii.gz",
        "brain/tumour/2.NII.GZ": "brain/masks/tumour/2.png",
    }


@pytest.mark.parametrize("name", [".DS_Store", "crack/Thumbs.db", "crack/._1.png", "good/1.png"])
def test_other_files_among_the_masks_and_masks_of_normal_images_are_no_mistake(tmp_path, name):
    for image in ("good/1.png", "crack/1.png"):
        save_image(tmp_path / "bolt" / image)
    save_mask(tmp_path / "bolt/masks/mask.png")
    (tmp_path / "bolt/masks" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "bolt/masks/mask.png").rename(tmp_path / "bolt/masks" / name)
    assert len(rows_of(tmp_path)) == 2


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".pnm", ".j2k"])
def test_images_of_kinds_that_are_not_read_are_reported(tmp_path, suffix, caplog):
    save_image(tmp_path / "bolt/good/1.png")
    (tmp_path / f"bolt/good/2{suffix}").touch()
    assert len(rows_of(tmp_path)) == 1
    assert f"1 files of kinds that are not read, such as 2{suffix}" in caplog.text


@pytest.mark.parametrize("empty", ["bolt", "bolt/test", "bolt/test/good", "bolt/good"])
def test_an_empty_class_folder_is_refused(tmp_path, empty):
    save_image(tmp_path / "nut/test/good/1.png")
    (tmp_path / empty).mkdir(parents=True)
    with pytest.raises(InputError, match="bolt.*found none"):
        rows_of(tmp_path)


@pytest.mark.parametrize("name", ["Good", "OK", "normal", "Healthy"])
def test_normal_images_in_a_folder_of_another_name_are_refused(tmp_path, name):
    save_image(tmp_path / "nut/good/1.png")
    save_image(tmp_path / "bolt/test" / name / "1.png")
    with pytest.raises(InputError, match=f"bolt/test: expected a folder good/ .*, found {name}; rename it"):
        rows_of(tmp_path)


def test_a_class_without_normal_images_is_reported(tmp_path, caplog):
    save_image(tmp_path / "nut/good/1.png")
    save_image(tmp_path / "bolt/test/gut/1.png")
    assert rows_of(tmp_path)["bolt", "bolt/test/gut/1.png"][0] == 1
    assert "bolt/test: no folder good/, so all images are anomalous (gut)" in caplog.text


def test_a_second_folder_of_normal_images_is_refused(tmp_path):
    for name in ("good", "scratch", "OK"):
        save_image(tmp_path / "bolt" / name / "1.png")
    with pytest.raises(InputError, match="bolt: expected a folder good/ .*, found OK; rename it"):
        rows_of(tmp_path)


@pytest.mark.parametrize(("name", "normal", "other"), [("mpdd", "good", "Good"), ("btad", "ok", "good")])
def test_official_layouts_name_their_normal_images_exactly(tmp_path, name, normal, other):
    write(name, tmp_path)
    place = next(path for path in sorted(tmp_path.rglob(normal)) if path.parent.name == "test")
    place.rename(place.with_name(other))
    with pytest.raises(InputError, match=f"test: expected a folder {normal}/ .*, found {other}; rename it"):
        read_layout(tmp_path, load_spec(name))


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("soon")
    with pytest.raises(InputError, match="expected images, with labels .* or without; found none"):
        rows_of(tmp_path)


def test_without_a_folder_of_normal_images_all_images_are_unlabelled_and_of_one_class(tmp_path, caplog):
    out = Written(tmp_path)
    for name in ("1.png", "camera/2.PNG", "camera/monday/3.tif"):
        out.image(name, "mine", "unlabelled")
    save_image(tmp_path / ".thumbnails" / "1.png")
    (tmp_path / "camera" / "notes.txt").write_text("")
    found = rows_of(tmp_path)
    assert found.keys() == out.rows.keys()
    assert set(found.values()) == {(-1, "unlabelled", "test", "")}
    assert "3 images are unlabelled" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("masks/scratch/1.png", "masks, but no folder good/ beside them"),
        ("bolt/ground_truth/1.png", "masks, but no folder good/ beside them"),
        ("bolt/Good/1.png", "expected good/, found Good/; rename it"),
    ],
)
def test_folders_that_look_like_labels_are_refused(tmp_path, name, message):
    save_image(tmp_path / "1.png")
    save_image(tmp_path / name)
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path)


def test_the_class_of_images_without_labels_can_be_named(tmp_path):
    save_image(tmp_path / "bolts" / "1.png")
    assert rows_of(tmp_path, class_names={"mine": "hex bolt"})
    with pytest.raises(InputError, match="unknown class folder 'bolts'; known: mine"):
        rows_of(tmp_path, class_names={"bolts": "hex bolt"})


def test_the_name_of_a_missing_class_folder_is_refused(tmp_path):
    save_image(tmp_path / "bolt/good/1.png")
    with pytest.raises(InputError, match="unknown class folder 'bolts'; did you mean 'bolt'"):
        rows_of(tmp_path, class_names={"bolts": "hex bolt"})


def test_other_classes_than_the_spec_are_refused(tmp_path):
    write("mpdd", tmp_path)
    shutil.move(tmp_path / "MPDD/tubes", tmp_path / "MPDD/pipes")
    with pytest.raises(InputError, match="not the classes of mpdd: missing tubes; unknown pipes"):
        read_layout(tmp_path, load_spec("mpdd"))


@pytest.mark.parametrize("name", ["mvtec_ad", "visa", "sdd", "dagm", "resc", "br35h", "covid19", "headct"])
def test_the_folder_of_another_dataset_is_refused(tmp_path, name):
    save_image(tmp_path / "holiday" / "beach.jpg")
    with pytest.raises(InputError, match="found holiday"):
        read_layout(tmp_path, load_spec(name))


def test_a_listed_image_that_does_not_exist_is_refused(tmp_path):
    write("headct", tmp_path)
    (tmp_path / "head_ct/head_ct/001.png").unlink()
    with pytest.raises(InputError, match="lists the image 001.png"):
        read_layout(tmp_path, load_spec("headct"))


@pytest.mark.parametrize(
    ("name", "table", "old", "new", "message"),
    [
        ("headct", "labels.csv", "1,0", "1,no", r"labels.csv, line 3: hemorrhage: expected 0 or 1, found 'no'"),
        ("headct", "labels.csv", "2,1", "0,1", r"labels.csv, line 4: id: expected each once, found '0'"),
        ("headct", "labels.csv", "2,1", "00,1", r"labels.csv, line 4: id: expected each once, found '00'"),
        ("visa", "split_csv/1cls.csv", "test,anomaly", "test,bad", "label: expected normal or anomaly, found 'bad'"),
        ("visa", "split_csv/1cls.csv", "test,anomaly", "valid,anomaly", "split: expected train or test, found 'valid'"),
        (
            "visa",
            "split_csv/1cls.csv",
            "Normal/0001.JPG",
            "Normal/0000.JPG",
            "image: expected each once, found 'candle",
        ),
    ],
)
def test_a_table_with_unknown_labels_or_doubled_images_is_refused(tmp_path, name, table, old, new, message):
    write(name, tmp_path)
    text = (tmp_path / table).read_text()
    (tmp_path / table).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_layout(tmp_path, load_spec(name))


def test_blanks_around_the_values_of_a_table_do_not_count(tmp_path):
    write("headct", tmp_path)
    (tmp_path / "labels.csv").write_text("id , hemorrhage \n0 ,1 \n1, 0\n2,1\n")
    assert [row.label for row in read_layout(tmp_path, load_spec("headct"))] == [1, 0, 1]


def test_the_first_release_of_covid_is_read(tmp_path):
    out = Written(tmp_path)
    out.image("NORMAL/NORMAL (1).png", "chest")
    out.image("COVID-19/COVID-19 (1).png", "chest", "COVID")
    out.image("Viral Pneumonia/1.png", "chest", expected=False)
    found = {
        (row.folder, row.image.relative_to(tmp_path).as_posix()) for row in read_layout(tmp_path, load_spec("covid19"))
    }
    assert found == set(out.rows)


def test_the_error_on_an_unknown_layout_suggests_the_nearest(tmp_path):
    spec = load_spec("mpdd").model_copy(update={"layout": "mvtek"})
    with pytest.raises(InputError, match="unknown layout 'mvtek'; did you mean 'mvtec'"):
        read_layout(tmp_path, spec)


def test_a_layout_is_one_registered_function(tmp_path, monkeypatch):
    monkeypatch.setattr("kanoclip.datasets.layouts.LAYOUTS", dict(LAYOUTS))
    layout("nothing")(lambda root, spec: [])
    assert read_layout(tmp_path, load_spec("mpdd").model_copy(update={"layout": "nothing"})) == []
