"""Download public photographs from tiny archives in their official layouts, on a local server."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from photograph_archives import changed_specs, serving, write_dtd, write_imagenet
from PIL import Image

from kanoclip.cli import app
from kanoclip.config import Configuration, PretrainingConfig, parse
from kanoclip.config.pretraining import PublicPhotographs
from kanoclip.datasets import download
from kanoclip.datasets.public_photographs import PhotographSource, collect, load_photographs, photograph_names
from kanoclip.downloads import missing
from kanoclip.expansion import expand
from kanoclip.pretraining.photographs import read_photographs
from kanoclip.pretraining.recipe import pretrain
from kanoclip.types import InputError

ROOT = Path(__file__).parents[3]


@dataclass
class Served:
    """The archives on a server, the images in them, and the requests so far."""

    archives: Path
    sources: list[PhotographSource]
    images: dict[str, bytes]
    requests: list[str]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "WAIT", 0.001)
    archives = tmp_path / "server"
    archives.mkdir()
    textures = write_dtd(archives / "dtd-r1.0.1.tar.gz")
    objects = write_imagenet(archives / "imagenet-sample-images.zip")
    counts = {"dtd": len(textures), "imagenet_sample": len(objects)}
    images = {f"dtd/{name}": content for name, content in textures.items()}
    images |= {f"imagenet_sample/{name}": content for name, content in objects.items()}
    with serving(archives) as (address, requests):
        specs = changed_specs(address, archives, counts)
        sources = [PhotographSource.model_validate({"name": name, **spec}) for name, spec in specs.items()]
        yield Served(archives, sources, images, requests)


def refusal(sources: list[PhotographSource], folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        collect(sources, folder / "out", folder / "resources")
    assert not (folder / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_configuration_knows_every_source_and_every_source_names_its_origin() -> None:
    assert sorted(get_args(PublicPhotographs)) == photograph_names()
    for source in map(load_photographs, photograph_names()):
        assert source.title and source.licence and source.citation and source.notes and source.homepage
    assert (
        sum(load_photographs(name).count for name in photograph_names()) == 2080
    )  # the number used for the weights in the package (model card)


def test_archives_become_a_folder_that_pretraining_reads(served: Served, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collect(served.sources, out, tmp_path / "resources")
    photographs = {photo.path.relative_to(out).as_posix(): photo for photo in read_photographs(out)}
    assert set(photographs) == set(served.images)
    assert photographs["dtd/banded/banded_0001.jpg"].name == "banded texture"
    assert photographs["imagenet_sample/n04146614_school_bus.JPEG"].name == "school bus"
    assert all(photo.texture == place.startswith("dtd/") for place, photo in photographs.items())
    origins = json.loads((out / "sources.json").read_text())
    assert {name: origin["licence"] for name, origin in origins.items()} == {
        source.name: source.licence for source in served.sources
    }


def test_only_large_photographs_are_resized(served: Served, tmp_path: Path) -> None:
    collect(served.sources, tmp_path / "out", tmp_path / "resources")
    large = "imagenet_sample/n01440764_tench.JPEG"
    for place, content in served.images.items():
        assert ((tmp_path / "out" / place).read_bytes() == content) is (place != large)
    with Image.open(tmp_path / "out" / large) as shrunk, Image.open(io.BytesIO(served.images[large])) as original:
        assert (original.size, shrunk.size) == ((400, 300), (341, 256))
        assert np.abs(np.asarray(shrunk).mean((0, 1)) - np.asarray(original).mean((0, 1))).max() < 1


def test_a_second_run_gives_the_same_folder_without_the_network(served: Served, tmp_path: Path) -> None:
    collect(served.sources, tmp_path / "out", tmp_path / "resources")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    requests = list(served.requests)
    collect(served.sources, tmp_path / "out", tmp_path / "resources")
    assert served.requests == requests
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_without_a_network_the_error_says_where_to_put_the_file_and_it_is_used_there(
    served: Served, tmp_path: Path
) -> None:
    dtd = served.sources[0]
    address = dtd.source.urls[0].replace("dtd-r", "nothing-r")  # type: ignore[union-attr]
    offline = dtd.model_copy(update={"source": dtd.source.model_copy(update={"urls": [address]})})
    message = refusal([offline], tmp_path)
    place = tmp_path / "resources/dtd/archives"
    assert f"get dtd-r1.0.1.tar.gz from {dtd.homepage} and put it in {place}" in message
    assert "or name a folder with `pretraining.photographs`" in message
    (served.archives / "dtd-r1.0.1.tar.gz").rename(place / "dtd-r1.0.1.tar.gz")
    collect([offline], tmp_path / "out", tmp_path / "resources")
    assert (tmp_path / "out/dtd/bumpy/bumpy_0000.jpg").is_file()


def test_damaged_archives_are_refused(served: Served, tmp_path: Path) -> None:
    """Damage is detected by the checksum of one archive, and when unpacking the other, which has no checksum."""
    dtd, imagenet = served.sources
    for file in ("dtd-r1.0.1.tar.gz", "imagenet-sample-images.zip"):
        content = bytearray((served.archives / file).read_bytes())
        content[len(content) // 2] ^= 255
        (served.archives / file).write_bytes(content)
    assert "expected SHA-256" in refusal([dtd], tmp_path)
    assert "imagenet-sample-images.zip: it sent no whole archive" in refusal([imagenet], tmp_path)


def test_an_incomplete_source_is_refused(served: Served, tmp_path: Path) -> None:
    more = served.sources[1].model_copy(update={"count": 1000})
    assert "expected 1000 photographs (n[0-9]*_*.JPEG), found 5; delete" in refusal([more], tmp_path)


@pytest.mark.parametrize("value", [["dtdd"], [], 3, ["dtd", 3]])
def test_a_wrong_source_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse(PretrainingConfig, {"photographs": value}, "--set")
    words = "'photographs': expected a folder, or a list of public sources (dtd, imagenet_sample), found"
    assert str(caught.value) == f"--set: {words} {value!r}"


def test_the_recipe_asks_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run `snakemake pretrain`.*--source dtd --out FOLDER"):
        pretrain(tmp_path, PretrainingConfig(photographs=("dtd",)))


def test_the_list_of_downloads_has_photographs_with_their_licence(tmp_path: Path) -> None:
    config = parse(Configuration, yaml.safe_load((ROOT / "config/pretraining.yaml").read_text()), "pretraining.yaml")
    found = {one.what: one for one in missing(config, expand(config), tmp_path)}
    assert set(found) == {"dtd", "imagenet_sample"}
    assert found["dtd"].licence == "for research purposes" and found["dtd"].size == "625 MB"
    (tmp_path / "resources/dtd/images").mkdir(parents=True)
    (tmp_path / "resources/dtd/images/1.jpg").touch()
    assert {one.what for one in missing(config, expand(config), tmp_path)} == {"imagenet_sample"}


def test_the_commands_know_the_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown source of photographs 'dtdd'"):
        app(["photographs", "--source", "dtdd", "--out", str(tmp_path / "out")], standalone_mode=False)
    images = tmp_path / "resources/dtd/images"
    images.mkdir(parents=True)
    (images / "placed.jpg").touch()
    app(["download", "--dataset", "dtd", "--resources", str(tmp_path / "resources")], standalone_mode=False)
    assert json.loads((tmp_path / "resources/dtd/source.json").read_text())["licence"] == "for research purposes"
