"""Archives are unpacked safely, and either completely or not at all."""

import io
import tarfile
import zipfile

import pytest

from kanoclip.datasets.archives import unpack, whole_folder
from kanoclip.types import InputError


def make_tar(path, names, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))


def make_zip(path, names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "abc")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_every_kind_of_archive_is_unpacked(tmp_path, suffix):
    archive = tmp_path / f"images.{suffix}"
    if suffix == "zip":
        make_zip(archive, ["a/b.txt"])
    else:
        make_tar(archive, ["a/b.txt"], f"w:{suffix.partition('.')[2]}")
    unpack(archive, tmp_path / "images")
    assert (tmp_path / "images/a/b.txt").read_text() == "abc"


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt"])
def test_an_archive_that_writes_outside_its_folder_is_refused(tmp_path, make, name):
    make(tmp_path / "archive", ["inside.txt", name])
    with pytest.raises(InputError, match="refused, it would write outside"):
        unpack(tmp_path / "archive", tmp_path / "deep" / "images")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["archive"]
    assert not (tmp_path / "deep" / "images").exists()


@pytest.mark.parametrize("name", ["/tmp/outside.txt", "C:\\outside.txt", "\\outside.txt"])
def test_a_zip_with_absolute_names_is_refused(tmp_path, name):
    make_zip(tmp_path / "archive.zip", [name])
    with pytest.raises(InputError, match="refused, it would write outside"):
        unpack(tmp_path / "archive.zip", tmp_path / "images")


def test_an_archive_with_a_link_to_the_outside_is_refused(tmp_path):
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(InputError, match="refused"):
        unpack(tmp_path / "archive.tar", tmp_path / "images")


@pytest.mark.parametrize(("make", "name"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")])
def test_a_damaged_archive_leaves_no_files(tmp_path, make, name):
    make(tmp_path / name, [f"{number}.txt" for number in range(50)])
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{name}: "):
        unpack(tmp_path / name, tmp_path / "images")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zip_with_a_password_is_not_called_damaged(tmp_path):
    make_zip(tmp_path / "a.zip", ["b.txt"])
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[6] |= 1  # the flag of encryption, in the header of the file and in the directory at the end
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="a.zip: needs a password; unpack it by hand"):
        unpack(tmp_path / "a.zip", tmp_path / "images")


def test_a_web_page_in_place_of_an_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_text("<html>Please log in</html>")
    with pytest.raises(InputError, match="neither a zip nor a tar archive"):
        unpack(tmp_path / "a.zip", tmp_path / "images")


def test_a_complete_folder_replaces_the_old_one_and_a_failure_keeps_it(tmp_path):
    folder = tmp_path / "images"
    for name in ("old", "new"):
        with whole_folder(folder) as temporary:
            (temporary / name).touch()
    with pytest.raises(OSError, match="disk"), whole_folder(folder) as temporary:
        (temporary / "half").touch()
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert [path.name for path in folder.iterdir()] == ["new"]
