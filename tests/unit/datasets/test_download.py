"""Download from a local server that misbehaves like real ones."""

import hashlib
import io
import json
import socket
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kanoclip.datasets import download as module
from kanoclip.datasets.download import download
from kanoclip.datasets.specs import ArchiveSource, load_spec
from kanoclip.types import InputError


def archive_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("top/image.bin", bytes(range(256)) * 2000)
    return buffer.getvalue()


DATA = archive_bytes()
DIGEST = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serve DATA at a path that names the misbehaviour; `server.starts` records where each answer begins."""

    def do_GET(self):
        behaviour = self.path.strip("/")
        requests = [path for path, _ in self.server.starts].count(behaviour)
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and behaviour not in ("no_range", "stops") else 0
        self.server.starts.append((behaviour, start))
        if behaviour == "missing":
            self.send_error(404)
        elif behaviour == "down" or (behaviour == "busy" and requests < 2):
            self.send_error(503)
        elif behaviour == "page":
            self.send_all(b"<html>Please log in</html>", "text/html; charset=utf-8")
        elif behaviour == "half":  # the connection closes early, and nothing says how much there is
            self.send_all(DATA[: len(DATA) // 2], "application/zip", length=None)
        elif behaviour == "odd_length":
            self.send_all(DATA, "application/zip", length="many")
        elif behaviour == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif start >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(DATA)}")
            self.end_headers()
        else:
            self.send_body(behaviour, start, requests)

    def send_all(self, body, kind, length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)

    def send_body(self, behaviour, start, requests):
        body = DATA[start:] if behaviour != "corrupt" else DATA[start:-1] + b"?"
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cuts = {"cuts": 3, "no_range": 1, "stops": 99}.get(behaviour, 0)
        if behaviour == "stalls" and requests == 0:
            self.wfile.write(body[:1000])
            time.sleep(1.0)
        elif behaviour == "slow":
            for begin in range(0, len(body), 1 + len(body) // 20):
                self.wfile.write(body[begin : begin + 1 + len(body) // 20])
                time.sleep(0.01)
        elif requests < cuts:
            self.wfile.write(body[: len(body) // 2])
        elif behaviour != "sends_nothing":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.starts = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def spec_of(server, *behaviours, sha256=DIGEST):
    urls = [f"http://127.0.0.1:{server.server_address[1]}/{behaviour}" for behaviour in behaviours]
    source = ArchiveSource(kind="archive", file="images.zip", urls=urls, sha256=sha256)
    return load_spec("btad").model_copy(update={"source": source})


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("behaviour", ["well", "slow", "cuts", "no_range", "busy", "odd_length"])
def test_an_archive_is_downloaded_completely(server, tmp_path, behaviour):
    images = download(spec_of(server, behaviour), tmp_path)
    assert images == tmp_path / "btad" / "images"
    assert (images / "top/image.bin").read_bytes() == bytes(range(256)) * 2000
    assert files_in(tmp_path / "btad") == [
        "archive.json",
        "archives/images.zip",
        "images/.unpacked.json",
        "images/top/image.bin",
        "source.json",
    ]


@pytest.fixture
def by_hand(tmp_path):
    """Return a function that places the archive of a dataset that needs a browser, and downloads it."""
    archive = tmp_path / "headct/archives/images.zip"
    archive.parent.mkdir(parents=True)

    def place(name):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, name)
        return files_below(download(load_spec("headct"), tmp_path)), hashlib.sha256(archive.read_bytes()).hexdigest()

    return place


def files_below(images):
    return [name for name in files_in(images) if not name.startswith(".")]


def recorded(tmp_path):
    return json.loads((tmp_path / "headct/source.json").read_text()).get("sha256")


def test_a_replaced_archive_is_unpacked_again(by_hand, tmp_path, caplog):
    assert by_hand("wrong.png")[0] == ["wrong.png"]
    files, digest = by_hand("right.png")
    assert files == ["right.png"] and recorded(tmp_path) == digest
    assert "another archive than last time" in caplog.text
    (tmp_path / "headct/archives/images.zip").unlink()
    (tmp_path / "headct/source.json").unlink()
    download(load_spec("headct"), tmp_path)
    assert files_below(tmp_path / "headct/images") == ["right.png"] and recorded(tmp_path) == digest


def test_an_archive_is_not_the_origin_of_images_placed_by_hand(by_hand, tmp_path, caplog):
    (tmp_path / "headct/images").mkdir()
    (tmp_path / "headct/images/mine.png").touch()
    assert by_hand("other.png")[0] == ["mine.png"]
    assert recorded(tmp_path) is None and not (tmp_path / "headct/archive.json").exists()
    assert "used as they are, not unpacked from" in caplog.text


def test_an_archive_of_another_kind_is_named(tmp_path):
    archives = tmp_path / "headct/archives"
    archives.mkdir(parents=True)
    (archives / "images.7z").touch()
    with pytest.raises(InputError, match=r"expected an archive \(.zip, .*, found images.7z; unpack it by hand into .*"):
        download(load_spec("headct"), tmp_path)
    (tmp_path / "headct/images").mkdir()
    (tmp_path / "headct/images/mine.png").touch()
    assert files_in(download(load_spec("headct"), tmp_path)) == ["mine.png"]


def test_a_silent_server_is_retried(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    assert (download(spec_of(server, "stalls"), tmp_path) / "top/image.bin").is_file()
    assert server.starts[:2] == [("stalls", 0), ("stalls", 1000)]


def test_an_interrupted_download_is_resumed(server, tmp_path):
    download(spec_of(server, "cuts"), tmp_path)
    starts = [start for _, start in server.starts]
    half = len(DATA) // 2
    assert starts[:2] == [0, half]
    assert starts == sorted(set(starts)) and len(starts) == 4


def test_a_download_restarts_if_the_server_cannot_resume(server, tmp_path):
    download(spec_of(server, "no_range"), tmp_path)
    assert server.starts == [("no_range", 0), ("no_range", 0)]


def test_a_download_is_resumed_after_the_program_was_killed(server, tmp_path):
    partial = tmp_path / "btad/archives/images.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA[:1234])
    download(spec_of(server, "well"), tmp_path)
    assert server.starts == [("well", 1234)]
    assert not partial.exists()


def test_a_download_killed_just_before_renaming_is_finished(server, tmp_path):
    partial = tmp_path / "btad/archives/images.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    assert (download(spec_of(server, "well"), tmp_path) / "top/image.bin").is_file()


def test_a_server_that_begins_again_and_stops_early_keeps_the_longer_part(server, tmp_path):
    partial = tmp_path / "btad/archives/images.zip.partial"
    partial.parent.mkdir(parents=True)
    arrived = len(DATA) // 2  # before the server stops
    for known, kept in ((arrived + 100, arrived + 100), (arrived - 100, arrived)):
        partial.write_bytes(DATA[:known])
        with pytest.raises(InputError, match=f"{arrived} of {len(DATA)} bytes arrived"):
            download(spec_of(server, "stops"), tmp_path)
        assert partial.read_bytes() == DATA[:kept]
        assert files_in(tmp_path) == ["btad/archives/images.zip.partial"]


def test_the_next_mirror_is_asked_if_one_sends_something_else(server, tmp_path):
    images = download(spec_of(server, "page", "half", "well", sha256=None), tmp_path)
    assert (images / "top/image.bin").is_file()


def test_a_partial_file_longer_than_the_archive_is_deleted(server, tmp_path):
    partial = tmp_path / "btad/archives/images.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA + b"more")
    download(spec_of(server, "well"), tmp_path)
    assert server.starts == [("well", len(DATA) + 4), ("well", 0)]


def test_source_json_records_the_origin(server, tmp_path):
    spec = spec_of(server, "well", sha256=None)
    download(spec, tmp_path)
    source = json.loads((tmp_path / "btad/source.json").read_text())
    assert source["sha256"] == DIGEST
    assert source["bytes"] == len(DATA)
    assert source["urls"] == spec.source.urls
    assert (source["licence"], source["citation"]) == (spec.licence, spec.citation)


def test_nothing_is_downloaded_twice(server, tmp_path):
    spec = spec_of(server, "well")
    download(spec, tmp_path)
    download(spec, tmp_path)
    assert len(server.starts) == 1


def test_the_next_mirror_is_used_if_one_fails(server, tmp_path):
    download(spec_of(server, "missing", "well"), tmp_path)
    assert server.starts == [("missing", 0), ("well", 0)]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("missing", "404"),
        ("down", "503"),
        ("page", "a web page"),
        ("loop", "302 .*loop.*"),
        ("half", "no whole archive"),
        ("sends_nothing", "0 of .* bytes arrived"),
    ],
)
def test_the_failure_of_all_mirrors_is_reported_in_one_line(server, tmp_path, behaviour, reason):
    with pytest.raises(InputError, match=f"no mirror has it .*{reason}.*put it in .*archives") as caught:
        download(spec_of(server, behaviour, sha256=None), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "btad/source.json").exists() and not (tmp_path / "btad/images").exists()


def test_a_refused_connection_is_reported(server, tmp_path):
    spec = spec_of(server, "well")
    with socket.create_server(("127.0.0.1", 0)) as closed_at_once:
        port = closed_at_once.getsockname()[1]
    source = spec.source.model_copy(update={"urls": [f"http://127.0.0.1:{port}/images.zip"]})
    with pytest.raises(InputError, match="no mirror has it .*refused"):
        download(spec.model_copy(update={"source": source}), tmp_path)


def test_corrupted_bytes_are_deleted(server, tmp_path):
    with pytest.raises(InputError, match=f"expected SHA-256 {DIGEST}, found .*deleted"):
        download(spec_of(server, "corrupt"), tmp_path)
    assert files_in(tmp_path) == []


def test_archive_placed_by_hand_is_used_and_never_deleted(server, tmp_path):
    archive = tmp_path / "btad/archives/images.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(InputError, match="expected SHA-256"):
        download(spec_of(server, "well"), tmp_path)
    assert archive.is_file()
    archive.write_bytes(DATA)
    assert (download(spec_of(server, "well"), tmp_path) / "top/image.bin").is_file()
    assert server.starts == []


def test_manual_dataset_says_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(
        InputError, match="dataset headct: .*kaggle.com.*headct/archives.*headct/images.*path"
    ) as caught:
        download(load_spec("headct"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["archives/any name.zip", "images/top/image.bin"])
def test_a_manual_dataset_placed_by_hand_is_used(tmp_path, place):
    path = tmp_path / "headct" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    images = download(load_spec("headct"), tmp_path)
    assert (images / "top/image.bin").is_file()
    source = json.loads((tmp_path / "headct/source.json").read_text())
    assert source.get("sha256") == (DIGEST if "archives" in place else None)
    assert source["urls"] == [load_spec("headct").source.where]


def test_two_archives_placed_by_hand_are_refused(tmp_path):
    (tmp_path / "headct/archives").mkdir(parents=True)
    for name in ("a.zip", "b.tar.gz"):
        (tmp_path / "headct/archives" / name).touch()
    with pytest.raises(InputError, match="expected one archive, found a.zip, b.tar.gz"):
        download(load_spec("headct"), tmp_path)


def test_a_full_disk_is_not_reported_as_a_network_error(server, tmp_path):
    partial = tmp_path / "btad/archives/images.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        download(spec_of(server, "well"), tmp_path)
    assert len(server.starts) == 1


@pytest.mark.parametrize("name", ["elpv", "synthetic"])
def test_datasets_without_a_download_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"dataset {name}: nothing to download"):
        download(load_spec(name), tmp_path)
