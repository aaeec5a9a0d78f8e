"""A second run into the folder of a prediction: pages after a stop, other files, outputs without a line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanoclip.predict import Detector, Threshold
from kanoclip.predict.drawing import Pictures
from kanoclip.predict.find import ImageFiles
from kanoclip.predict.folder import Job, predict_files
from kanoclip.predict.records import read_records
from kanoclip.types import InputError


def run(detector: Detector, images: Path, out: Path, shown: bool = True, maps: str = "") -> None:
    predict_files(Job(detector, ImageFiles([images]), out, Pictures(out, shown, maps), 4))


def lines(out: Path) -> list[dict]:
    return list(read_records(out))


def pictures(out: Path) -> list[str]:
    """Return the names of all files in the folders below an output."""
    return sorted(str(path.relative_to(out)) for path in out.glob("*/**/*") if path.is_file())


def stack(path: Path, count: int) -> None:
    pages = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 9), dtype=np.uint8)) for seed in range(count)
    ]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_file_with_a_missing_line_is_predicted_again(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path, kept: int
) -> None:
    """Cut the lines of a whole run after any number, in the middle of a line."""
    images, out = write_images("a.png", "z.png"), tmp_path / "out"
    stack(images / "stack.tif", 5)
    run(detector, images, out, shown=False)
    whole = [line["image"] for line in lines(out)]
    assert whole == ["a.png", *(f"stack.tif#{page}" for page in range(1, 6)), "z.png"]
    text = (out / "predictions.jsonl").read_text().splitlines(keepends=True)
    (out / "predictions.jsonl").write_text("".join(text[:kept]) + text[kept][:9])
    run(detector, images, out, shown=False)
    assert sorted(line["image"] for line in lines(out)) == sorted(whole)
    with (out / "predictions.csv").open() as file:
        assert sorted(row["image"] for row in csv.DictReader(file)) == sorted(whole)


def test_the_input_folder_can_be_the_output_folder(detector: Detector, write_images: Callable[..., Path]) -> None:
    images = write_images("a.png", "sub/b.png")
    for _ in range(2):
        run(detector, images, images, maps="png")
        assert [line["image"] for line in lines(images)] == ["a.png", "sub/b.png"]


def test_files_of_the_user_where_pictures_are_written_are_refused(
    detector: Detector, write_images: Callable[..., Path]
) -> None:
    images = write_images("a.png", "masks/a.png.png")
    before = (images / "masks/a.png.png").read_bytes()
    with pytest.raises(InputError, match="masks: expected no folder of this name"):
        run(detector, images, images)
    assert (images / "masks/a.png.png").read_bytes() == before and not (images / "prediction.json").exists()


def test_only_the_given_files_keep_their_lines_and_pictures(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png", "b.png", "c.png"), tmp_path / "out"
    for maps in ("", "png"):
        run(detector, images, out / maps, maps=maps)
        run(detector, images / "b.png", out / maps, maps=maps)
        run(detector, images / "b.png", tmp_path / "alone" / maps, maps=maps)
        assert [line["image"] for line in lines(out / maps)] == ["b.png"]
    assert pictures(out) == pictures(tmp_path / "alone")


def test_pictures_of_images_that_are_gone_or_broken_are_deleted(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("sub/a.png", "b.png", "c.png"), tmp_path / "out"
    run(detector, images, out)
    all_pictures = pictures(out)
    (images / "sub/a.png").unlink()
    (images / "b.png").write_bytes(b"no image")
    run(detector, images, out)
    assert [("error" in line, line["image"]) for line in lines(out)] == [(False, "c.png"), (True, "b.png")]
    assert pictures(out) == [name for name in all_pictures if "/c.png." in name] and len(pictures(out)) == 4


def test_a_line_that_leads_out_of_the_folder_deletes_nothing(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a.png"), tmp_path / "out"
    run(detector, images, out)
    record = json.loads((out / "predictions.jsonl").read_text()) | {"image": "../../mine", "file": "gone.png"}
    (out / "predictions.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "mine.png").write_bytes(b"of the user")
    run(detector, images, out)
    assert (tmp_path / "mine.png").exists() and [line["image"] for line in lines(out)] == ["a.png"]


def test_a_link_to_nothing_is_a_line_with_an_error(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = write_images("a.png")
    (images / "gone.png").symlink_to("nowhere.png")
    run(detector, images, tmp_path / "out")
    assert "gone.png: expected an image, found a link to nothing" in lines(tmp_path / "out")[1]["error"]


def test_a_file_given_often_is_predicted_once_by_several_threads(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    image, out = write_images("a.png") / "a.png", tmp_path / "out"
    predict_files(Job(detector, ImageFiles([image] * 8), out, Pictures(out), 8, 8))
    assert [line["image"] for line in lines(out)] == ["a.png"]


def test_a_folder_called_like_the_picture_of_an_image_beside_it(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    names = ["a.png", "a.png.png/b.png", "a.png.image.webp/b.png", "a.png.npy/b.png"]
    images, out = write_images(*names), tmp_path / "out"
    run(detector, images, out, maps="png")
    assert {line["image"] for line in lines(out)} == set(names) and len(pictures(out)) == 5 * len(names)
    run(detector, images, tmp_path / "packed", maps="hdf5")
    assert len(list((tmp_path / "packed/maps.partial").glob("**/*.npy"))) == len(names)


def test_a_name_with_a_carriage_return_is_one_field_of_the_table(
    detector: Detector, write_images: Callable[..., Path], tmp_path: Path
) -> None:
    images, out = write_images("a\rb.png", "c\nd.png", "e,f\r\n.png"), tmp_path / "out"
    detector.threshold = Threshold(0.5, None, "")
    run(detector, images, out, shown=False)
    with (out / "predictions.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["a\rb.png", "c\nd.png", "e,f\r\n.png"]
