"""Files that changed, were damaged in transit, or were left by a killed process."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from kanoclip.datasets.archives import unpack
from kanoclip.datasets.index import read_index
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec
from kanoclip.files import HOST, whole
from kanoclip.types import InputError


@pytest.mark.parametrize("column", ["image_path", "mask_path"])
def test_the_error_names_a_file_that_changed_after_prepare(
    write_folder: Callable[..., Path], tmp_path: Path, column: str
) -> None:
    """Size and times stay the same, so only the content shows the change."""
    write_folder(tmp_path / "images")
    prepare(folder_spec("parts", {}), tmp_path / "index.csv", tmp_path, tmp_path / "images")
    frame = read_index(tmp_path / "index.csv")
    check_unchanged(frame)
    path = Path(next(name for name in frame[column] if name))
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputError, match=rf"{path.name}: changed since its dataset was prepared"):
        check_unchanged(frame)


def test_two_folders_with_the_same_class_name_are_refused(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    write_folder(tmp_path / "images", ("a_b", "a b"))
    with pytest.raises(InputError, match="the folders 'a b' and 'a_b' are both the class 'a b'"):
        prepare(folder_spec("parts", {}), tmp_path / "index.csv", tmp_path, tmp_path / "images")
    assert not (tmp_path / "index.csv").exists()


def test_a_class_called_mean_is_refused(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    write_folder(tmp_path / "images", ("mean",))
    with pytest.raises(InputError, match="'mean' cannot be the name of a class"):
        prepare(folder_spec("parts", {}), tmp_path / "index.csv", tmp_path, tmp_path / "images")


def test_two_masks_for_one_image_are_refused(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    write_folder(tmp_path / "images", ("nut",))
    mask = tmp_path / "images/nut/ground_truth/spot/000_mask.png"
    Image.open(mask).save(mask.with_suffix(".bmp"))
    with pytest.raises(InputError, match="a second mask for one image"):
        prepare(folder_spec("parts", {}), tmp_path / "index.csv", tmp_path, tmp_path / "images")


def tar(path: Path, content: bytes) -> bytes:
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        entry = tarfile.TarInfo("a.bin")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return path.read_bytes()


def test_a_tar_gz_with_damaged_data_is_refused(tmp_path: Path) -> None:
    """The data are stored uncompressed, so only the checksum at the end of the archive shows the damage."""
    path = tmp_path / "a.tar.gz"
    spoiled = bytearray(tar(path, bytes(range(256)) * 40))
    spoiled[len(spoiled) // 2] ^= 1
    path.write_bytes(spoiled)
    with pytest.raises(InputError, match="a damaged archive"):
        unpack(path, tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_an_archive_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(gzip.decompress(tar(path, bytes(10**6)))))
    with pytest.raises(InputError, match="would unpack to more than 1e-05 GB"):
        unpack(path, tmp_path / "images", largest=10_000)
    assert not (tmp_path / "images").exists()


def test_temporary_files_of_killed_processes_are_removed_and_those_of_running_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "a.csv"
    left, others = tmp_path / f".{HOST}-{dead.pid}.a.csv", tmp_path / f".000000-{dead.pid}.a.csv"
    living = tmp_path / f".{HOST}-1.a.csv"
    for file in (left, others, living):
        file.write_text("half")
    with whole(path) as temporary:
        temporary.write_text("whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([others.name, living.name, "a.csv"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("list", "x" * 300), "error: "),
        (("--log", "x" * 300 + "/log", "list", "metrics"), "cannot write the log: File name too long"),
        (("plan", "--configfile", "."), "expected a configuration in YAML"),
        (("plan", "--config", "targets=[["), "expected a value in YAML"),
    ],
)
def test_an_error_of_the_operating_system_is_reported_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "kanoclip", *arguments]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root}
    )
    assert result.returncode == 1 and line in result.stderr and len(result.stderr.splitlines()) == 1
