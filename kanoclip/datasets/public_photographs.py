"""Public photographs without defects, for pretraining: one YAML file per source, downloaded like the datasets."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import ClassVar

import yaml
from PIL import Image

from kanoclip.datasets.archives import whole_folder
from kanoclip.datasets.download import download
from kanoclip.datasets.images import load_image
from kanoclip.datasets.safe_open import read_file
from kanoclip.datasets.specs import Origin
from kanoclip.files import write_json
from kanoclip.types import InputError, logger, progress, unknown_name

SOURCES = Path(__file__).parent / "public_photographs"
SHORTER_SIDE = 256  # pixels, at most: twice the image size of kanoclip-tiny, so that most crops are still shrunk
QUALITY = 95  # of the JPEG files
THREADS = 8  # at most: each holds one decoded image


class PhotographSource(Origin):
    """A public source of photographs.

    Attributes:
        files: patterns of the last parts of their paths, wherever the archive was unpacked. These parts are kept, since
            `kanoclip.pretraining.photographs` takes names and the held-out photographs from them.
        count: the number of photographs.
    """

    folder_key: ClassVar[str] = "pretraining.photographs"

    files: list[str]
    count: int

    def find(self, root: Path) -> dict[str, Path]:
        """Return the photographs below a folder by the parts of their path that a pattern matches.

        Raises:
            InputError: there are more or fewer than `count`.
        """
        found: dict[str, Path] = {}
        for pattern in self.files:
            parts = len(PurePosixPath(pattern).parts)
            found |= {"/".join(path.parts[-parts:]): path for path in sorted(root.rglob(pattern))}
        if len(found) != self.count:
            raise InputError(
                f"{root}: expected {self.count} photographs ({', '.join(self.files)}), found {len(found)}; delete "
                f"{root.parent} and run again, or put the complete {self.title} there"
            )
        return found


def photograph_names() -> list[str]:
    """Return the names of all public sources, sorted."""
    return sorted(path.stem for path in SOURCES.glob("*.yaml"))


def load_photographs(name: str) -> PhotographSource:
    """Return a public source of photographs.

    >>> load_photographs("dtd").count
    1080

    Raises:
        InputError: there is no such source.
    """
    if name not in photograph_names():
        raise unknown_name("source of photographs", name, photograph_names())
    fields = yaml.safe_load((SOURCES / f"{name}.yaml").read_text(encoding="utf-8"))
    return PhotographSource.model_validate({"name": name, **fields})


def collect(sources: Sequence[PhotographSource], out: Path, resources: Path) -> None:
    """Write the photographs of some sources into one folder, whole or not at all.

    Files: OUT/<source>/<file>, with a shorter side of at most SHORTER_SIDE pixels, and OUT/sources.json with the
    origin, licence and citation of each source.

    Args:
        sources: downloaded if necessary.
        out: the folder; an existing one is replaced.
        resources: the folder of downloads.

    Raises:
        InputError: a source cannot be downloaded or is incomplete, or a photograph cannot be read.
    """
    origins = {}
    with whole_folder(out) as temporary:
        for source in sources:
            images = download(source, resources)
            found = source.find(images)
            targets = [temporary / source.name / place for place in found]
            for folder in {target.parent for target in targets}:
                folder.mkdir(parents=True)
            with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
                written = pool.map(_shrink, found.values(), targets)
                list(progress(written, f"shrink {source.name}", len(found), "images"))
            origins[source.name] = json.loads((images.parent / "source.json").read_text(encoding="utf-8"))
            logger.info("%s: %d photographs (licence: %s)", source.name, len(found), source.licence)
        write_json(temporary / "sources.json", origins)


def _shrink(photograph: Path, target: Path) -> None:
    """Write a photograph at its limited size; the file of a small one is copied."""
    content = read_file(photograph)
    image = load_image(photograph, content)
    shorter = min(image.size)
    if shorter <= SHORTER_SIDE:
        target.write_bytes(content)
        return
    width, height = (round(side * SHORTER_SIDE / shorter) for side in image.size)
    image.resize((width, height), Image.Resampling.LANCZOS).save(target, "JPEG", quality=QUALITY, subsampling=0)
