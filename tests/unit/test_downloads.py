"""List the downloads that a run still needs, and record downloaded weights."""

import json
from pathlib import Path

import pytest
import yaml

from kanoclip.cli import app
from kanoclip.config import BackboneConfig, Configuration, TowerConfig, parse
from kanoclip.downloads import fetched_weights, missing, render
from kanoclip.protocol import describe

ROOT = Path(__file__).parents[2]


def of_the_paper(root: Path) -> dict[str, str]:
    config = parse(Configuration, yaml.safe_load((ROOT / "config/config.yaml").read_text()), "config.yaml")
    return {one.what: one.get for one in missing(config, describe(config), root)}


def test_files_that_exist_are_not_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = of_the_paper(tmp_path)
    assert before["visa"] == "by the workflow" and before["dagm"] == "by hand"
    weights = "weights of clip-l14-518: ViT-L-14-336-quickgelu, openai"
    assert weights in before
    for path in (
        "resources/visa/archives/VisA_20220922.tar",  # downloaded, to be unpacked
        "resources/dagm/images/Class1/a.png",  # copied there by hand
        "resources/br35h/archives/archive.zip",
        "resources/btad/images/01/a.png",
        "resources/visa/source.json",
        "resources/mpdd/source.json",  # without its images, which would be fetched again
        "resources/headct/archives/images.7z",  # which `kanoclip download` cannot unpack
        "resources/backbones/clip-l14-518.json",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert set(before) - set(of_the_paper(tmp_path)) == {"visa", "dagm", "br35h", "btad", weights}
    assert "found images.7z; unpack it by hand" in caplog.text


def test_published_weights_are_listed_until_downloaded(tmp_path: Path) -> None:
    row = {"method": "april_gan", "recipe": "published"}
    values = {"targets": ["btad"], "auxiliary": "visa", "methods": {"row": row | {"weights": "published"}}}
    config = parse(Configuration, values, "configuration")
    what = f"weights of {row['method']}, trained on visa"
    (found,) = [one for one in missing(config, describe(config), tmp_path) if one.what == what]
    assert found.get == "by the workflow" and found.origin.startswith("https://")
    Path(found.destination).parent.mkdir(parents=True)
    Path(found.destination).touch()
    assert what not in {one.what for one in missing(config, describe(config), tmp_path)}


def test_weights_from_a_hub_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    file.touch()
    local = {"model": "ViT-B-16", "weights": str(file)}
    assert fetched_weights(BackboneConfig(**local)) == []
    towers = {
        "dino": TowerConfig(model="vit_base_patch14_reg4_dinov2"),
        "test": TowerConfig(model="x", weights="random:1"),
    }
    assert fetched_weights(BackboneConfig(**local, towers=towers)) == ["vit_base_patch14_reg4_dinov2, timm"]
    assert fetched_weights(BackboneConfig(model="ViT-B-16", weights="random:0")) == []


def test_the_quickstart_needs_no_download() -> None:
    config = parse(Configuration, yaml.safe_load((ROOT / "config/quickstart.yaml").read_text()), "quickstart.yaml")
    assert render(missing(config, describe(config))) == "nothing is missing"


def test_the_record_names_the_downloaded_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tiny.json"
    keys = ["--set", "model=kanoclip-tiny", "--set", "weights=embedded", "--set", "image_size=128"]
    app(["fetch-backbone", *keys, "--out", str(out)], standalone_mode=False)
    digest = (ROOT / "kanoclip/backbones/tiny/kanoclip-tiny.sha256").read_text().split()[0]
    assert json.loads(out.read_text()) == {"model": "kanoclip-tiny", "weights": "embedded", "identity": digest}
    app(["downloads", "--configfile", str(ROOT / "config/quickstart.yaml")], standalone_mode=False)
    assert capsys.readouterr().out == "nothing is missing\n"
