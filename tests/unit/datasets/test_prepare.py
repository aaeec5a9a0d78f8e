"""Make an index of images: what is refused, which images a limit keeps, and that the result is repeatable."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from layout_writers import save_image, save_mask, write
from PIL import Image

from kanoclip.datasets.image_loader import ImageLoader
from kanoclip.datasets.index import read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import ArchiveSource, folder_spec, load_spec
from kanoclip.types import InputError


@pytest.fixture
def bolts(tmp_path):
    root = tmp_path / "bolts"
    for name in ("hex", "wing"):
        for number in range(9):
            save_image(root / name / "test/good" / f"{number}.png")
            save_image(root / name / "test/crack" / f"{number}.png")
            save_mask(root / name / "ground_truth/crack" / f"{number}_mask.png")
    return root


def prepared(root, tmp_path, **options):
    out = tmp_path / "run/data/bolts/index.csv"
    prepare(folder_spec("bolts", {}), out, tmp_path / "resources", path=root, **options)
    return read_index(out)


def refused(root, tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        prepared(root, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").rglob("*.csv"))


def test_paths_are_relative_to_the_index(bolts, tmp_path):
    frame = prepared(bolts, tmp_path)
    assert len(frame) == 36
    assert set(frame["image"]) >= {"../../../bolts/hex/test/good/0.png"}
    assert all(Path(path).is_file() for path in frame["image_path"])


def test_an_index_can_be_moved_with_its_images(bolts, tmp_path):
    prepared(bolts, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for name in ("run", "bolts"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    frame = read_index(tmp_path / "elsewhere/run/data/bolts/index.csv")
    assert all(Path(path).is_file() for path in [*frame["image_path"], *filter(None, frame["mask_path"])])


def test_digests_change_with_the_bytes_of_images_and_masks(bolts, tmp_path):
    before = prepared(bolts, tmp_path)
    save_image(bolts / "hex/test/good/0.png", (21, 14))
    save_mask(bolts / "wing/ground_truth/crack/5_mask.png", value=7)
    after = prepared(bolts, tmp_path)
    changed = {
        column: after.loc[before[column] != after[column], "image"].tolist()
        for column in ("image_digest", "mask_digest")
    }
    assert changed == {
        "image_digest": ["../../../bolts/hex/test/good/0.png"],
        "mask_digest": ["../../../bolts/wing/test/crack/5.png"],
    }
    for path, found in zip(after["image_path"], after["image_digest"], strict=True):
        assert found == hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]
    assert ((after["mask"] == "") == (after["mask_digest"] == "")).all()


def test_a_truncated_image_is_refused(bolts, tmp_path):
    image = bolts / "wing/test/crack/4.png"
    image.write_bytes(image.read_bytes()[:-300])
    refused(bolts, tmp_path, "wing/test/crack/4.png: not a whole image")


def test_a_truncated_mask_is_refused(bolts, tmp_path):
    mask = bolts / "hex/ground_truth/crack/3_mask.png"
    mask.write_bytes(mask.read_bytes()[:50])
    refused(bolts, tmp_path, "3_mask.png: not a whole image")


def test_all_problems_are_reported_together(bolts, tmp_path):
    for number in range(3):
        (bolts / "hex/test/good" / f"{number}.png").write_bytes(b"")
    save_mask(bolts / "wing/ground_truth/crack/4_mask.png", size=(3, 3))
    refused(bolts, tmp_path, "^4 problems: .*hex/test/good/0.png: .*1.png: .*2.png: .*4_mask.png: the mask is 3x3")
    for number in range(9):
        (bolts / "wing/test/good" / f"{number}.png").write_bytes(b"")
    refused(bolts, tmp_path, "^13 problems: .*; and 3 more$")


def test_images_of_other_formats_are_rows(bolts, tmp_path, caplog):
    good, bad = bolts / "hex/test/good", bolts / "hex/test/crack"
    Image.open(good / "0.png").save(good / "a b'ü.webp", lossless=True)
    Image.fromarray(np.arange(280, dtype=np.uint16).reshape(14, 20)).save(bad / "deep.tif")
    save_mask(bolts / "hex/ground_truth/crack/deep_mask.png")
    (good / "x.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    frame = prepared(bolts, tmp_path)
    assert {Path(image).name for image in frame["image"]} > {"a b'ü.webp", "deep.tif"} and len(frame) == 38
    same = [path for path in frame["image_path"] if path.endswith((".webp", "hex/test/good/0.png"))]
    with ImageLoader(8) as loader:
        (batch,) = loader.stream([same])
    assert len(batch) == 2 and (batch[0] == batch[1]).all()
    assert "1 files of kinds that are not read, such as x.eps" in caplog.text


def test_a_file_with_several_images_is_refused(bolts, tmp_path):
    pages = [Image.new("RGB", (20, 14), color) for color in ("red", "blue")]
    pages[0].save(bolts / "hex/test/good/two.tif", save_all=True, append_images=pages[1:])
    refused(bolts, tmp_path, "two.tif: expected one image in a file of a dataset, found 2; save each")


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\rb.png"])
def test_names_that_an_index_cannot_hold_are_refused_before_any_file_is_read(bolts, tmp_path, name):
    good = bolts / "hex/test/good"
    (good / "1.png").write_bytes(b"")
    try:
        (good / "0.png").rename(good / os.fsdecode(name))
    except OSError:
        pytest.skip("the file system refuses the name")
    refused(bolts, tmp_path, r"good/(caf\\udce9|a\\rb).png: expected a name in UTF-8 .* found another; rename it$")


def test_a_mask_of_another_size_is_refused(bolts, tmp_path):
    save_mask(bolts / "hex/ground_truth/crack/3_mask.png", size=(14, 20))
    refused(bolts, tmp_path, "3_mask.png: the mask is 14x20 pixels, its image 20x14")


def test_an_anomalous_image_without_a_mask_is_refused(bolts, tmp_path):
    (bolts / "hex/ground_truth/crack/3_mask.png").unlink()
    refused(bolts, tmp_path, "hex/test/crack/3.png: an anomalous image without a mask")


def test_an_empty_class_folder_is_refused(bolts, tmp_path):
    (bolts / "eye").mkdir()
    refused(bolts, tmp_path, "eye: ")


def test_a_folder_without_masks_is_accepted(bolts, tmp_path):
    for name in ("hex", "wing"):
        shutil.rmtree(bolts / name / "ground_truth")
    assert (prepared(bolts, tmp_path)["mask"] == "").all()


def test_an_official_dataset_without_its_masks_is_refused(tmp_path):
    write("mpdd", tmp_path / "source")
    for masks in (tmp_path / "source").rglob("ground_truth"):
        shutil.rmtree(masks)
    with pytest.raises(InputError, match="bracket_black/test/hole/000.png: an anomalous image without a mask"):
        prepare(load_spec("mpdd"), tmp_path / "index.csv", tmp_path, path=tmp_path / "source")


def test_a_failed_run_keeps_the_old_index(bolts, tmp_path):
    prepared(bolts, tmp_path)
    out = tmp_path / "run/data/bolts/index.csv"
    before = out.read_bytes()
    (bolts / "hex/test/good/0.png").write_bytes(b"")
    with pytest.raises(InputError):
        prepared(bolts, tmp_path)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["index.csv"]


def test_limit_applies_per_class_and_label(bolts, tmp_path):
    counts = prepared(bolts, tmp_path, limit=4).groupby(["class_name", "label"]).size()
    assert list(counts) == [4, 4, 4, 4]


def test_limit_is_nested_seeded_and_independent_of_other_images(bolts, tmp_path):
    def chosen(**options):
        return set(prepared(bolts, tmp_path, **options)["image"])

    two, five = chosen(limit=2), chosen(limit=5)
    assert two < five
    assert chosen(limit=5) == five
    assert any(chosen(limit=5, seed=seed) != five for seed in (1, 2, 3))
    for image in (bolts / "hex/test/good").iterdir():
        if f"../../../bolts/hex/test/good/{image.name}" not in five:
            image.unlink()
    assert chosen(limit=5) == five


def test_limit_does_not_depend_on_the_location_of_the_folder(bolts, tmp_path):
    here = [path.split("bolts/", 1)[1] for path in prepared(bolts, tmp_path, limit=3)["image"]]
    shutil.copytree(bolts, tmp_path / "other" / "bolts")
    there = [path.split("bolts/", 1)[1] for path in prepared(tmp_path / "other" / "bolts", tmp_path, limit=3)["image"]]
    assert here == there


def test_a_folder_without_path_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="dataset bolts: a folder of your own needs its path"):
        prepare(folder_spec("bolts", {}), tmp_path / "index.csv", tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        prepare(folder_spec("bolts", {}), tmp_path / "index.csv", tmp_path, path=tmp_path / "nowhere")


def test_the_error_names_a_package_that_is_not_installed(tmp_path):
    spec = load_spec("elpv")
    source = spec.source.model_copy(update={"module": "elpv_dataset_of_nobody"})
    with pytest.raises(InputError, match=r'pip install "kanoclip\[data\]"'):
        prepare(spec.model_copy(update={"source": source}), tmp_path / "index.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("elpv", {"monocrystalline solar cell": (588, 313), "polycrystalline solar cell": (920, 402)}),
        ("textile", {"woven fabric": (1000, 500), "woven fabric weave": (1000, 500)}),
    ],
)
def test_an_installed_package_gives_the_published_counts(name, counts, tmp_path):
    prepare(load_spec(name), tmp_path / "index.csv", tmp_path)
    frame = read_index(tmp_path / "index.csv")
    found = frame.groupby("class_name")["label"].agg(lambda label: ((label == 0).sum(), (label == 1).sum()))
    assert found.to_dict() == counts


def test_classes_that_share_normal_images_keep_the_same_images(tmp_path):
    prepare(load_spec("textile"), tmp_path / "index.csv", tmp_path, limit=10)
    normal = read_index(tmp_path / "index.csv").query("label == 0")
    sets = normal.groupby("class_name")["image"].agg(frozenset)
    assert len(set(sets)) == 1 and len(sets.iloc[0]) == 10


def test_the_error_about_a_wrong_archive_says_what_to_replace(tmp_path):
    archive = tmp_path / "headct/archives/holiday.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("beach/1.png", "")
    with pytest.raises(InputError, match="found beach; if these are not .* of headct, put .*archives, delete .*images"):
        prepare(load_spec("headct"), tmp_path / "index.csv", tmp_path)


def test_an_archive_placed_by_hand_is_unpacked_and_indexed(tmp_path):
    write("mpdd", tmp_path / "source")
    archive = tmp_path / "resources/mpdd/archives/MPDD.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "source").rglob("*")):
            file.write(path, path.relative_to(tmp_path / "source"))
    prepare(load_spec("mpdd"), tmp_path / "index.csv", tmp_path / "resources")
    assert len(read_index(tmp_path / "index.csv")) == 18
    assert json.loads((tmp_path / "resources/mpdd/source.json").read_text())["dataset"] == "mpdd"


def test_a_synthetic_dataset_is_byte_identical_every_time(tmp_path):
    trees = []
    for run in ("1", "2"):
        prepare(load_spec("synthetic"), tmp_path / run / "index.csv", tmp_path)
        files = sorted(path for path in (tmp_path / run).rglob("*") if path.is_file())
        trees.append({path.relative_to(tmp_path / run): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    images = [content for path, content in trees[0].items() if "test" in path.parts]
    assert len(set(images)) == len(images) == 192


def drawn(tmp_path, kinds=("gear", "tile")):
    spec = load_spec("synthetic")
    few = spec.source.model_copy(update={"normal": 1, "anomalous": 2})
    spec = spec.model_copy(update={"source": few, "classes": list(kinds)})
    prepare(spec, tmp_path / "index.csv", tmp_path / "resources")
    return {path: path.read_bytes() for path in (tmp_path / "images").rglob("*.png")}


def test_a_synthetic_dataset_is_drawn_again_into_its_own_folder(tmp_path):
    (tmp_path / "images").mkdir()
    first = drawn(tmp_path)
    (tmp_path / "images/.DS_Store").touch()
    assert drawn(tmp_path) == first and len(first) == 2 * (1 + 2 + 2)


@pytest.mark.parametrize(
    "name", ["holiday.jpg", "gear/test/good/mine.png", "gear/train/good/000.png", "gear/notes.txt", "bolt/000.png"]
)
def test_drawing_replaces_no_folder_with_other_files(tmp_path, name):
    drawn(tmp_path)
    mine = tmp_path / "images" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match=f"expected a folder that synthetic drew.* found .*{mine}; move it away"):
        drawn(tmp_path)
    assert mine.read_text() == "mine"


def test_drawing_replaces_no_part_of_another_dataset_and_no_link(tmp_path):
    save_image(tmp_path / "images/tile/test/good/000.png")
    with pytest.raises(InputError, match="found no .*gear"):
        drawn(tmp_path)
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="images: expected a folder that synthetic drew"):
        drawn(tmp_path)
    assert (tmp_path / "elsewhere/tile/test/good/000.png").is_file()


def test_more_synthetic_images_do_not_change_the_first_ones(tmp_path):
    spec = load_spec("synthetic").model_copy(update={"classes": ["gear"]})
    few = spec.source.model_copy(update={"normal": 2, "anomalous": 3})
    prepare(spec, tmp_path / "many" / "index.csv", tmp_path)
    prepare(spec.model_copy(update={"source": few}), tmp_path / "few" / "index.csv", tmp_path)
    for path in (tmp_path / "few").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "many" / path.relative_to(tmp_path / "few")).read_bytes()


def test_archive_source_needs_a_mirror():
    with pytest.raises(ValueError, match="at least 1 item"):
        ArchiveSource(kind="archive", file="a.zip", urls=[])
