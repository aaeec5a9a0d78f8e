"""Tiny archives of public photographs in their official layouts, and a server for them on this machine."""

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from kanoclip.datasets.public_photographs import SOURCES
from kanoclip.files import sha256

USED = ["banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "crosshatched", "crystalline"]
CLASSES = ["n01440764_tench", "n01443537_goldfish", "n02012849_crane", "n03126707_crane", "n04146614_school_bus"]


def picture(number: int, width: int = 120, height: int = 100) -> bytes:
    """Return a JPEG of noise that depends on the number."""
    pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_dtd(path: Path, each: int = 2) -> dict[str, bytes]:
    """Write images, labels and an unused attribute, as in dtd-r1.0.1.tar.gz; return the images that are used."""
    files = {
        f"{name}/{name}_{number:04}.jpg": picture(100 * row + number)
        for row, name in enumerate([*USED, "woven"])
        for number in range(each)
    }
    others = {"labels/train1.txt": b"banded/banded_0000.jpg\n", "images/banded/.directory": b"[Dolphin]\n"}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**{f"images/{name}": content for name, content in files.items()}, **others}.items():
            entry = tarfile.TarInfo(f"dtd/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return {name: content for name, content in files.items() if not name.startswith("woven")}


def write_imagenet(path: Path, each: int = 1) -> dict[str, bytes]:
    """Write images and web pages into one folder, as in GitHub's archive; return the images, the first a large one."""
    names = [f"{name}{number or ''}.JPEG" for name in CLASSES for number in range(each)]
    files = {name: picture(5000 + row, 300 if row else 400, 100 if row else 300) for row, name in enumerate(names)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "README.md": b"# images\n", "gallery.md": b"n01440764_tench.JPEG\n"}.items():
            archive.writestr(f"imagenet-sample-images-22d0a5c/{name}", content)
    return files


def changed_specs(server: str, archives: Path, counts: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the specs of the sources with the tiny archives, which are in a folder and on a server."""
    specs = {}
    for name, count in counts.items():
        spec = yaml.safe_load((SOURCES / f"{name}.yaml").read_text())
        file = spec["source"]["file"]
        spec |= {"count": count, "source": {**spec["source"], "urls": [f"{server}/{file}"]}}
        if "sha256" in spec["source"]:
            spec["source"]["sha256"] = sha256(archives / file)
        specs[name] = spec
    return specs


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of a folder; yield the address and the list of requests so far."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    requests: list[str] = []
    server.requests = requests  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
