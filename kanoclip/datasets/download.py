"""Download archives: resume interrupted transfers, verify them, unpack them whole or not at all."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from kanoclip.datasets.archives import unpack
from kanoclip.datasets.specs import ArchiveSource, ManualSource, Origin
from kanoclip.files import sha256, write_json
from kanoclip.types import InputError, Progress, logger

TIMEOUT = 60.0  # seconds without receiving a byte
TRIES = 4  # consecutive attempts without progress
WAIT = 2.0  # seconds before the next attempt, doubled after each without progress
BLOCK = 1 << 16  # bytes
LAST = "archive.json"  # facts of the last download, kept when source.json is removed
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


class Interrupted(Exception):
    """A transfer ended early; the received part is kept, and another attempt may succeed."""


class Refused(Exception):
    """A server does not have the file; another attempt would fail too."""


def download(spec: Origin, resources: Path) -> Path:
    """Return the folder with the images of a dataset, after downloading and unpacking them if necessary.

    All files lie in resources/<dataset>/: archives/ (downloaded, or placed there by hand), images/ (unpacked, or
    placed there by hand) and source.json (their origin; written last).

    Args:
        spec: a dataset or photographs whose source is an archive, or manual.
        resources: the folder of downloads.

    Raises:
        InputError: no mirror answers, the archive is not the published one, it has to be downloaded by hand, or
            there is nothing to download.
    """
    source = spec.source
    if not isinstance(source, ArchiveSource | ManualSource):
        raise InputError(
            f"dataset {spec.name}: nothing to download (its source is: {source.kind}); prepare it directly"
        )
    place = resources / spec.name
    images, note = place / "images", place / "source.json"
    if note.is_file() and images.is_dir():
        return images
    placed_images = images.is_dir() and any(images.iterdir())
    archive = _placed(source, place / "archives")
    fetched = archive is None and not placed_images
    if fetched:
        archive = _fetch(spec, source, place)
    facts = _archive_facts(archive, source, delete_if_wrong=fetched) if archive else {}
    _compare_with_last(place / LAST, facts)
    if archive and not placed_images:
        unpack(archive, images)
    where = source.urls if isinstance(source, ArchiveSource) else [source.where]
    about = {"dataset": spec.name, "homepage": spec.homepage, "licence": spec.licence, "citation": spec.citation}
    write_json(note, {**about, "urls": where, **facts})
    if facts:
        write_json(place / LAST, facts)
    return images


def _compare_with_last(record: Path, facts: Mapping[str, str | int]) -> None:
    """Warn if an archive differs from that of an earlier download; its publisher may have changed it."""
    try:
        last = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return
    if facts and last != facts["sha256"]:
        logger.warning(
            "%s: another archive than last time: SHA-256 %s, before %s; results are not comparable",
            record,
            facts["sha256"],
            last,
        )


def _placed(source: ArchiveSource | ManualSource, archives: Path) -> Path | None:
    """Return the archive if it exists already."""
    if isinstance(source, ArchiveSource):
        return archives / source.file if (archives / source.file).is_file() else None
    found = sorted(path for path in archives.glob("*") if path.name.lower().endswith(ARCHIVES))
    if len(found) > 1:
        raise InputError(f"{archives}: expected one archive, found {', '.join(path.name for path in found)}")
    return found[0] if found else None


def _archive_facts(archive: Path, source: ArchiveSource | ManualSource, delete_if_wrong: bool) -> dict[str, str | int]:
    """Return what source.json records of an archive, after checking that it is the published one."""
    digest = sha256(archive)
    if source.sha256 is not None and digest != source.sha256:
        if delete_if_wrong:
            archive.unlink()
        what_next = "it was deleted; run again" if delete_if_wrong else "replace it"
        raise InputError(f"{archive}: expected SHA-256 {source.sha256}, found {digest}; {what_next}")
    return {"file": archive.name, "sha256": digest, "bytes": archive.stat().st_size}


def _fetch(spec: Origin, source: ArchiveSource | ManualSource, place: Path) -> Path:
    """Download the archive from the first mirror that has it."""
    by_hand = (
        f"in {place / 'archives'} (or its unpacked folders in {place / 'images'}), "
        f"or name a folder with `{spec.folder_key}`"
    )
    if isinstance(source, ManualSource):
        raise InputError(
            f"dataset {spec.name}: needs a browser or an account; get {source.what} from {source.where} and put it "
            f"{by_hand}"
        )
    archive = place / "archives" / source.file
    archive.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in source.urls:
        try:
            fetch_from(url, archive)
            return archive
        except (Interrupted, Refused) as reason:
            logger.warning("%s: %s", url, reason)
            reasons.append(f"{url}: {reason}")
    raise InputError(
        f"dataset {spec.name}: no mirror has it ({'; '.join(reasons)}); get {source.file} from {spec.homepage} and put "
        f"it {by_hand}"
    )


def fetch_from(url: str, file: Path) -> None:
    """Download a file from one mirror, in several transfers if necessary, as long as each makes progress.

    The received part is kept beside the file, and the next call continues it.

    Raises:
        Interrupted, Refused: it did not arrive.
    """
    partial = file.with_name(f"{file.name}.partial")
    furthest, in_vain = _size(partial), 0
    while True:
        try:
            _transfer(url, partial)
            partial.replace(file)
            return
        except Interrupted:
            arrived = _size(partial)
            in_vain = 0 if arrived > furthest else in_vain + 1
            furthest = max(furthest, arrived)
            if in_vain == TRIES:
                raise
            time.sleep(WAIT * 2**in_vain)


def _transfer(url: str, partial: Path) -> None:
    """Make one request; it continues a partial file if the server can."""
    start = _size(partial)
    headers = {"User-Agent": "kanoclip"} | ({"Range": f"bytes={start}-"} if start else {})
    response = _open(urllib.request.Request(url, headers=headers), partial, start)
    if response is None:
        return
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            partial.unlink()
            raise Interrupted("the server sent another range than asked for")
        length = response.headers.get("Content-Length")
        total = int(length) + start * resumed if length else None
        with (
            partial.open("ab" if resumed else "wb") as file,
            Progress(f"download {partial.stem}", total, unit="B", initial=file.tell()) as shown,
        ):
            for block in _blocks(response):
                file.write(block)
                shown.update(len(block))
    if total is not None and _size(partial) != total:
        raise Interrupted(f"{_size(partial)} of {total} bytes arrived")


def _open(request: urllib.request.Request, partial: Path, start: int) -> HTTPResponse | None:
    """Return the server's answer; None if the partial file turns out to be complete."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has no bytes after the partial file
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return None
            partial.unlink()
            raise Interrupted("the partial file does not fit the server's") from error
        if error.code >= 500 or error.code == 429:
            raise Interrupted(f"{error.code} {error.reason}") from error
        raise Refused(f"{error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise Interrupted(str(getattr(error, "reason", error))) from error


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body as it arrives; only network errors count as interruptions, a full disk does not."""
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, HTTPException) as error:
            raise Interrupted(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
