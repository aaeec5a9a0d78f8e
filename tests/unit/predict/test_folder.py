"""Predict a folder: resumed after any stop, equal with any batch size, and broken images are reported."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanoclip.datasets.decoding import Frame, read_image
from kanoclip.predict import Detector, Threshold
from kanoclip.predict.coco import write_coco
from kanoclip.predict.drawing import Pictures, opacity, overlay, scale_of
from kanoclip.predict.find import ImageFiles
from kanoclip.predict.folder import Job, predict_files
from kanoclip.predict.gallery import write_gallery
from kanoclip.predict.records import Records, read_records
from kanoclip.types import InputError

NASTY = [
    "<script>alert(1)</script>.png".replace("/", "∕"),
    "a\"b'c.png",
    "new\nline.png",
    "Schraube größer.png",
    "%41&amp;.png",
]


def run(detector: Detector, images: Path, out: Path, batch_size: int = 4, shown: bool = True, maps: str = "") -> None:
    predict_files(Job(detector, ImageFiles([images]), out, Pictures(out, shown, maps), batch_size))


def lines(out: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "state"} for line in read_records(out)]


def test_nested_folders_are_walked_and_other_files_reported(write_images: Callable[..., Path]) -> None:
    folder = write_images("b.png", "deep/er/a.JPG", "a.png", ".hidden.png")
    (folder / "notes.txt").write_text("x")
    files = ImageFiles([folder])
    assert [file.name for file in files] == ["a.png", "b.png", "deep/er/a.JPG"] and len(files) == 3
    assert [path.name for path in files.others()] == ["notes.txt"]


def test_a_list_of_paths_and_several_folders_have_unique_names(
    write_images: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = write_images("x/a.png", folder="one"), write_images("a.png", folder="two")
    assert [file.name for file in ImageFiles([first, second])] == ["one/x/a.png", "two/a.png"]
    (tmp_path / "list.txt").write_text("two/a.png\n\none/x/a.png\n")
    assert [file.name for file in ImageFiles([tmp_path / "list.txt"])] == ["two/a.png", "one/x/a.png"]
    assert [file.name for file in ImageFiles([second / "a.png"])] == ["a.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected images .* found an empty folder"),
        (["a.txt", "b.md"], "found 2 other files"),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=message):
        ImageFiles([tmp_path])
    with pytest.raises(InputError, match="found nothing there"):
        ImageFiles([tmp_path / "nowhere"])


def test_predictions_and_pictures_equal_those_of_the_detector(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png", "sub/b.jpg"), tmp_path / "out"
    detector.threshold = Threshold(0.5, float(np.median(detector.predict(images / "a.png").map)), "")
    run(detector, images, out, maps="png")
    found = lines(out)
    results = detector.predict([images / "a.png", images / "sub/b.jpg"])
    for line, result in zip(found, results, strict=True):
        assert line["score"] == pytest.approx(result.score, abs=1e-6)
        assert line["decision"] == ("anomalous" if result.is_anomalous else "normal")
        assert (line["width"], line["height"]) == (36, 24)
        raw = np.asarray(Image.open(out / f"maps/{line['image']}.png")) / 65535
        np.testing.assert_allclose(raw, result.map, atol=1e-5)
        mask = np.asarray(Image.open(out / f"masks/{line['image']}.png"))
        np.testing.assert_array_equal(mask, result.mask)
        assert Image.open(out / f"heat/{line['image']}.png").size == (36, 24)
    with (out / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["score"]) for row in table] == [line["score"] for line in found]
    assert [int(row["regions"]) for row in table] == [len(line["regions"]) for line in found]
    assert sum(len(line["regions"]) for line in found) > 0
    write_coco(out)
    coco = json.loads((out / "regions.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "sub/b.jpg"]
    boxes = [[r["x"], r["y"], r["width"], r["height"]] for line in found for r in line["regions"]]
    assert [one["bbox"] for one in coco["annotations"]] == boxes
    assert [one["id"] for one in coco["annotations"]] == list(range(1, len(boxes) + 1))


def test_a_zero_map_shows_the_image_and_the_maximum_mostly_covers_it() -> None:
    image = Image.new("RGB", (4, 2), (10, 200, 30))
    strength = opacity(np.array([[0.0, 0.1, 0.2, 0.9]] * 2), (0.1, 0.2))
    drawn = np.asarray(overlay(image, strength)).astype(int)
    assert drawn[0, 0].tolist() == drawn[0, 1].tolist() == [10, 200, 30]
    assert drawn[0, 2].tolist() == drawn[0, 3].tolist() and abs(drawn[0, 2] - [10, 200, 30]).sum() > 200


def test_the_threshold_has_at_least_the_middle_colour(detector: Detector) -> None:
    results = [detector.predict(np.random.default_rng(seed).random((20, 30))) for seed in range(3)]
    for one in results:
        object.__setattr__(one, "threshold", Threshold(0.5, 0.9, ""))
    low, high = scale_of(results)
    assert opacity(np.array([0.9]), (low, high))[0] >= 0.5 - 1e-6


def test_a_broken_image_does_not_stop_the_others_and_is_retried(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png", "c.png"), tmp_path / "out"
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:100])
    run(detector, images, out)
    found = lines(out)
    assert [line["image"] for line in found] == ["a.png", "b.png", "c.png"]
    assert "not a whole image" in found[1]["error"] and "score" not in found[1]
    (images / "b.png").write_bytes((images / "a.png").read_bytes())
    run(detector, images, out)
    assert sorted(line["image"] for line in lines(out) if "error" not in line) == ["a.png", "b.png", "c.png"]
    assert len(lines(out)) == 3


def test_a_second_run_predicts_the_remaining_images(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = write_images(*(f"{i}.png" for i in range(10))), tmp_path / "out"
    run(detector, images, tmp_path / "whole", 3)
    read: list[str] = []

    def stopped_at(name: str) -> None:
        def load(path: Path) -> list[Frame]:
            read.append(path.name)
            if path.name == name:
                raise KeyboardInterrupt
            return read_image(path)

        monkeypatch.setattr("kanoclip.predict.folder.read_image", load)

    stopped_at("7.png")
    with pytest.raises(KeyboardInterrupt):
        run(detector, images, out, 3)
    before = [line["image"] for line in lines(out)]
    assert 0 < len(before) < 8
    with (out / "predictions.jsonl").open("a") as file:
        file.write('{"image": "cut o')  # like the file of a killed process
    read.clear()
    stopped_at("")
    run(detector, images, out, 3)
    assert not set(before) & set(read)
    assert [line["image"] for line in lines(out)] == [f"{i}.png" for i in range(10)]
    scores = [[line["score"] for line in lines(folder)] for folder in (out, tmp_path / "whole")]
    np.testing.assert_allclose(*scores, atol=1e-6)
    assert len((out / "predictions.csv").read_text().splitlines()) == 11


def test_a_changed_image_is_predicted_again_and_another_threshold_refused(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png", "b.png"), tmp_path / "out"
    run(detector, images, out)
    before = {line["image"]: line["score"] for line in lines(out)}
    Image.fromarray(np.zeros((24, 36, 3), np.uint8)).save(images / "a.png")
    os.utime(images / "a.png", ns=(1, 1))
    run(detector, images, out)
    after = {line["image"]: line["score"] for line in lines(out)}
    assert after["b.png"] == before["b.png"] and after["a.png"] != before["a.png"]
    detector.threshold = Threshold(0.1, 0.1, "")
    with pytest.raises(InputError, match="holds a prediction with another threshold"):
        run(detector, images, out)
    detector.class_name = "bolt"
    with pytest.raises(InputError, match="another model"):
        run(detector, images, out)


def test_the_page_handles_any_file_name(detector: Detector, write_images: Callable[..., Path], tmp_path: Path) -> None:
    images, out = write_images(*NASTY), tmp_path / "out"
    run(detector, images, out)
    write_gallery(out, detector, True, "")
    page = (out / "index.html").read_text()
    assert "<script>alert" not in page and page.count("</script>") == 2
    data = page.partition('id="data">')[2].partition("</script>")[0]
    tiles = json.loads(data)
    assert {tile["name"] for tile in tiles} == set(NASTY)
    assert [tile["score"] for tile in tiles] == sorted((tile["score"] for tile in tiles), reverse=True)
    from urllib.parse import unquote

    for tile in tiles:
        for address in (tile["image"], tile["heat"], *tile["files"].values()):
            assert (out / unquote(address)).is_file(), address
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_memory_is_bounded_for_twenty_thousand_images(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    """Memory after 20,000 images exceeds that after 2,000 only by a few bytes per image."""
    import tracemalloc

    first = write_images("0.png", size=(16, 16)) / "0.png"
    for number in range(1, 20_000):
        os.link(first, first.with_name(f"{number}.png"))
    out, peaks = tmp_path / "out", []
    add = Records.add

    def measured(self: Records, records: list[dict]) -> None:
        add(self, records)
        peaks.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "add", measured)
        run(detector, first.parent, out, 64, shown=False)
    tracemalloc.stop()
    assert sum(1 for _ in read_records(out)) == 20_000
    assert peaks[-1] - peaks[len(peaks) // 10] < 18_000 * 100  # bytes
