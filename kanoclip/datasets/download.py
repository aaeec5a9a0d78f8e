"""Download archives: resume interrupted transfers, verify them, unpack them whole or not at all."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from kanoclip.datasets.archives import Damaged, unpack, whole_folder
from kanoclip.datasets.places import UNPACKED, Place, read_facts
from kanoclip.datasets.specs import ArchiveSource, ManualSource, Origin
from kanoclip.files import remembered_sha256, sha256, write_json
from kanoclip.types import InputError, Progress, logger

TIMEOUT = 60.0  # seconds without receiving a byte
TRIES = 4  # consecutive attempts without progress
WAIT = 2.0  # seconds before the next attempt, doubled after each without progress
BLOCK = 1 << 16  # bytes


class Interrupted(Exception):
    """A transfer ended early; the received part is kept, and another attempt may succeed."""


class Refused(Exception):
    """A server does not have the file; another attempt would fail too."""


def download(spec: Origin, resources: Path) -> Path:
    """Return the folder with the images of a dataset, after downloading and unpacking them if necessary.

    All files lie in resources/<dataset>/: archives/ (downloaded, or placed there by hand), images/ (unpacked, or
    placed there by hand) and source.json (their origin; written last). An archive other than the one that was unpacked
    is unpacked again; images placed by hand are never replaced.

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
    place = Place(resources / spec.name)
    archive, facts = place.archive(source), place.unpacked()
    replaced = archive is not None and bool(facts) and remembered_sha256(archive) != facts["sha256"]
    if place.has_images() and not replaced:
        if place.note.is_file():
            return place.images
        if archive and not facts:
            logger.warning(
                "%s: used as they are, not unpacked from %s; delete them to unpack it", place.images, archive
            )
    else:
        facts = _unpack(archive, source, place) if archive else _fetch(spec, source, place)
    where = source.urls if isinstance(source, ArchiveSource) else [source.where]
    about = {"dataset": spec.name, "homepage": spec.homepage, "licence": spec.licence, "citation": spec.citation}
    write_json(place.note, {**about, "urls": where, **facts})
    return place.images


def _unpack(
    archive: Path, source: ArchiveSource | ManualSource, place: Place, delete_if_wrong: bool = False
) -> dict[str, Any]:
    """Check and unpack an archive, and return its facts, which are recorded with the images in one step."""
    facts = _archive_facts(archive, source, delete_if_wrong)
    last = read_facts(place.last)
    if last and last["sha256"] != facts["sha256"]:  # its publisher may have changed it
        logger.warning(
            "%s: another archive than last time: SHA-256 %s, before %s; results are not comparable",
            place.last,
            facts["sha256"],
            last["sha256"],
        )
    with whole_folder(place.images) as temporary:
        unpack(archive, temporary)
        write_json(temporary / UNPACKED, facts)
    write_json(place.last, facts)
    return facts


def _archive_facts(archive: Path, source: ArchiveSource | ManualSource, delete_if_wrong: bool) -> dict[str, Any]:
    """Return what source.json records of an archive, after checking that it is the published one."""
    digest = sha256(archive)
    if source.sha256 is not None and digest != source.sha256:
        if delete_if_wrong:
            archive.unlink()
        what_next = "it was deleted; run again" if delete_if_wrong else "replace it"
        raise InputError(f"{archive}: expected SHA-256 {source.sha256}, found {digest}; {what_next}")
    return {"file": archive.name, "sha256": digest, "bytes": archive.stat().st_size}


def _fetch(spec: Origin, source: ArchiveSource | ManualSource, place: Place) -> dict[str, Any]:
    """Download and unpack the archive from the first mirror that has it, and return its facts."""
    by_hand = (
        f"in {place.archives} (or its unpacked folders in {place.images}), or name a folder with `{spec.folder_key}`"
    )
    if isinstance(source, ManualSource):
        raise InputError(
            f"dataset {spec.name}: needs a browser or an account; get {source.what} from {source.where} and put it "
            f"{by_hand}"
        )
    archive = place.archives / source.file
    archive.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in source.urls:
        try:
            fetch_from(url, archive)
            return _unpack(archive, source, place, delete_if_wrong=True)
        except Damaged:
            archive.unlink()
            reason = "it sent no whole archive; what it sent was deleted"
        except (Interrupted, Refused) as error:
            reason = str(error)
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
        if response.headers.get_content_type() == "text/html" and "Content-Type" in response.headers:
            raise Refused("expected a file, found a web page")
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            partial.unlink()
            raise Interrupted("the server sent another range than asked for")
        if resumed or not start:
            _receive(response, partial, start * resumed)
            return
        restart = partial.with_suffix(".restart")  # the server begins again: what is there may still be more
        try:
            _receive(response, restart, 0)
            restart.replace(partial)
        except Interrupted:
            if _size(restart) > start:
                restart.replace(partial)
            raise
        finally:
            restart.unlink(missing_ok=True)


def _receive(response: HTTPResponse, target: Path, start: int) -> None:
    """Write the body of a response to a file, after its first `start` bytes."""
    length = response.headers.get("Content-Length", "")
    total = int(length) + start if length.isascii() and length.isdigit() else None
    with (
        target.open("ab" if start else "wb") as file,
        Progress(f"download {target.stem}", total, unit="B", initial=start) as shown,
    ):
        for block in _blocks(response):
            file.write(block)
            shown.update(len(block))
    if total is not None and _size(target) != total:
        raise Interrupted(f"{_size(target)} of {total} bytes arrived")


def _open(request: urllib.request.Request, partial: Path, start: int) -> HTTPResponse | None:
    """Return the server's answer; None if the partial file turns out to be complete."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        problem = f"{error.code} {' '.join(str(error.reason).split())}"  # that of a redirect loop has several lines
        if error.code == 416:  # the server has no bytes after the partial file
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return None
            partial.unlink()
            raise Interrupted("the partial file does not fit the server's") from error
        if error.code >= 500 or error.code == 429:
            raise Interrupted(problem) from error
        raise Refused(problem) from error
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
