"""Find images: every file once, links followed, the outputs of predictions left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kanoclip.predict.find import ImageFiles
from kanoclip.predict.outputs import short


def names(*paths: Path) -> list[str]:
    files = ImageFiles(list(paths))
    found = [file.name for file in files]
    assert len(files) == len(found)
    return found


def test_a_file_that_several_paths_lead_to_is_found_once(write_images: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_images("a.png", "sub/b.png")
    (tmp_path / "list.txt").write_text("images/a.png\nimages/../images/a.png\n")
    (tmp_path / "other").symlink_to(folder)
    assert names(folder, folder / "a.png", folder / "sub", folder) == ["a.png", "sub/b.png"]
    assert names(tmp_path / "list.txt") == ["a.png"]
    assert names(folder, tmp_path / "other") == ["images/a.png", "images/sub/b.png"]


def test_links_to_folders_are_followed_except_in_circles(write_images: Callable[..., Path], tmp_path: Path) -> None:
    folder, elsewhere = write_images("a.png", "sub/b.png"), write_images("c.png", folder="elsewhere")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "sub" / "up").symlink_to(folder)
    (elsewhere / "back").symlink_to(folder / "sub")
    (folder / "itself").symlink_to(folder / "itself")
    assert names(folder) == ["a.png", "linked/back/b.png", "linked/c.png"]


def test_a_link_to_nothing_is_found_like_an_image_that_cannot_be_read(write_images: Callable[..., Path]) -> None:
    folder = write_images("a.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "gone.md").symlink_to("nowhere.md")
    assert names(folder) == ["a.png", "gone.png"]
    assert [path.name for path in ImageFiles([folder]).others()] == ["gone.md"]


@pytest.mark.parametrize("place", ["", "old/"])
def test_outputs_of_a_prediction_are_left_out_and_images_beside_them_found(
    write_images: Callable[..., Path], place: str
) -> None:
    own = [f"{kind}/a.png" for kind in ("heat", "masks", "maps", "maps.partial", "thumbnails")]
    folder = write_images(*(place + name for name in ("a.png", "sub/heat/b.png", *own)))
    assert len(names(folder)) == 7
    for name in ("prediction.json", "index.html", "predictions.csv", "notes.md"):
        (folder / place / name).write_text("{}")
    assert names(folder) == [f"{place}a.png", f"{place}sub/heat/b.png"]
    assert [path.name for path in ImageFiles([folder]).others()] == ["notes.md"]


def test_a_list_of_paths_may_start_with_a_mark_of_its_encoding(
    write_images: Callable[..., Path], tmp_path: Path
) -> None:
    write_images("größer.png")
    (tmp_path / "list.txt").write_text("images/größer.png\r\n", encoding="utf-8-sig")
    assert names(tmp_path / "list.txt") == ["größer.png"]


def test_no_folder_of_pictures_is_called_like_a_picture() -> None:
    given = [f"a{end}/b.png" for end in (".png.png", ".png.png_", ".png.png__", ".png.npy", ".png.heat.webp", "")]
    changed = [short(name) for name in given]
    assert len(set(changed)) == len(given) and changed[-1] == given[-1]
    assert not any(name.partition("/")[0].endswith((".png", ".npy", ".webp")) for name in changed)
