"""Detect changed files: listings of folders, and checksums cached between runs."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from kanoclip import files
from kanoclip.files import listing_digest, remembered_sha256

OLD = 1_700_000_000_123_456_789  # nanoseconds: a day in 2023


def write(path: Path, content: bytes, modified: int = OLD) -> Path:
    """Write a file and set its modification time, in nanoseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(modified, modified))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/b/2.png", "3.png"):
        write(tmp_path / "images" / name, name.encode())
    return tmp_path / "images"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/kanoclip/checksums.json"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that have been read completely."""
    names = []

    def noted(path: Path, read=files.sha256) -> str:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(files, "sha256", noted)
    return names


def test_listing_changes_with_every_file_added_removed_renamed_or_replaced(folder: Path) -> None:
    seen = [listing_digest(folder)]
    write(folder / "a/4.png", b"4")
    seen.append(listing_digest(folder))
    (folder / "a/4.png").rename(folder / "4.png")
    seen.append(listing_digest(folder))
    write(folder / "4.png", b"44")
    seen.append(listing_digest(folder))
    write(folder / "4.png", b"44", OLD + 1)
    seen.append(listing_digest(folder))
    (folder / "3.png").unlink()
    seen.append(listing_digest(folder))
    assert len(set(seen)) == len(seen)


def test_listing_ignores_the_location_reading_and_hidden_files(folder: Path) -> None:
    before = listing_digest(folder)
    (folder / "a/1.png").read_bytes()
    write(folder / ".DS_Store", b"")
    write(folder / "a/.thumbnails/1.png", b"")
    assert listing_digest(folder) == before
    assert listing_digest(folder.rename(folder.with_name("elsewhere"))) == before


def test_listings_of_a_missing_and_an_empty_folder_differ(tmp_path: Path) -> None:
    assert listing_digest(tmp_path / "missing") == ""
    assert len(listing_digest(tmp_path)) == 64


def test_listing_follows_links_but_not_cycles(folder: Path) -> None:
    before = listing_digest(folder)
    (folder / "a/b/up").symlink_to(folder)
    (folder / "a/gone.png").symlink_to(folder / "nowhere.png")
    (folder / "linked").symlink_to(folder / "a")
    linked = listing_digest(folder)
    assert linked != before
    write(folder / "a/1.png", b"other")
    assert listing_digest(folder) != linked


def test_a_file_is_read_once_for_all_runs(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    weights = write(tmp_path / "weights.bin", b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert [remembered_sha256(weights) for _ in range(3)] == [expected] * 3
    assert reads == ["weights.bin"]
    assert cache.is_file()


@pytest.mark.parametrize(("content", "modified"), [(b"WEIGHTS", OLD + 1), (b"longer weights", OLD)])
def test_a_changed_file_is_read_again(
    tmp_path: Path, cache: Path, reads: list[str], content: bytes, modified: int
) -> None:
    weights = write(tmp_path / "weights.bin", b"weights")
    remembered_sha256(weights)
    write(weights, content, modified)
    assert remembered_sha256(weights) == hashlib.sha256(content).hexdigest()
    assert len(reads) == 2


@pytest.mark.parametrize("ahead", [-1.0, 3600.0])
def test_the_checksum_of_a_file_changed_just_now_is_not_cached(
    tmp_path: Path, cache: Path, reads: list[str], ahead: float
) -> None:
    """It can change again within one tick of the file system's clock; so can a file dated in the future."""
    now = time.time_ns() + int(ahead * 10**9)
    weights = write(tmp_path / "weights.bin", b"first", now)
    remembered_sha256(weights)
    write(weights, b"other", now)
    assert remembered_sha256(weights) == hashlib.sha256(b"other").hexdigest()
    assert not cache.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"a": ', '{"WEIGHTS": 1}', '{"WEIGHTS": {"state": [7, OLD]}}', "\x00"])
def test_a_broken_cache_is_ignored_and_replaced(tmp_path: Path, cache: Path, reads: list[str], text: str) -> None:
    weights = write(tmp_path / "weights.bin", b"weights")
    write(cache, text.replace("WEIGHTS", str(weights)).replace("OLD", str(OLD)).encode())
    for _ in range(2):
        assert remembered_sha256(weights) == hashlib.sha256(b"weights").hexdigest()
    assert len(reads) == 1


def test_a_cache_that_cannot_be_written_causes_no_error(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    weights = write(tmp_path / "weights.bin", b"weights")
    write(tmp_path / "cache", b"a file where the folder should be")
    for _ in range(2):
        assert remembered_sha256(weights) == hashlib.sha256(b"weights").hexdigest()
    assert len(reads) == 2


def test_entries_of_deleted_files_are_removed(tmp_path: Path, cache: Path) -> None:
    first, second = (write(tmp_path / name, name.encode()) for name in ("first", "second"))
    remembered_sha256(first)
    first.unlink()
    remembered_sha256(second)
    assert list(json.loads(cache.read_text())) == [str(second)]


def test_two_names_of_a_file_share_an_entry(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    weights = write(tmp_path / "weights.bin", b"weights")
    (tmp_path / "link").symlink_to(weights)
    assert remembered_sha256(weights) == remembered_sha256(tmp_path / "link")
    assert reads == ["weights.bin"]
