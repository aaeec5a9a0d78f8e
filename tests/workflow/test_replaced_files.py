"""Replace weights under the same name: everything that was made from them runs again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from test_workflow import NEEDED, ROOT, planned, snakemake

pytestmark = pytest.mark.slow

COMMON: dict[str, Any] = {
    "run": "replaced",
    "backbone": "kanoclip-tiny-128",
    "auxiliary_for": {},
    "targets": ["synthetic"],
    "datasets": {"synthetic": {"limit": 1}},
    "seeds": [1],
    "threshold_folds": 0,
}
TINY = {"model": "kanoclip-tiny", "weights": "embedded", "image_size": 128}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the repository."""
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(project: Path, values: dict[str, Any], target: str) -> list[str]:
    """Make a target, and return the options that made it."""
    (project / "replaced.yaml").write_text(yaml.safe_dump(COMMON | values))
    options = ["--configfile", "replaced.yaml", "--", target]
    made = snakemake(project, *options)
    assert made.returncode == 0, made.stderr[-3000:]
    assert planned(project, *options) == {}
    return options


def test_other_weights_of_a_second_tower(project: Path) -> None:
    def write(seed: int) -> None:
        torch.manual_seed(seed)
        tower = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        save_file(tower.state_dict(), project / "tower.safetensors")

    write(0)
    second = {"model": "vit_tiny_patch16_224", "weights": "tower.safetensors", "image_size": 128}
    values = {
        "auxiliary": "synthetic_auxiliary",
        "methods": {"clip": None},
        "backbones": {"kanoclip-tiny-128": {**TINY, "towers": {"dino": second}}},
    }
    scores = "results/replaced/scores/clip/kanoclip-tiny-128/none/synthetic/seed1/scores.h5"
    options = run(project, values, scores)
    write(1)
    assert planned(project, *options)["score_kanoclip_tiny_128_synthetic"] == 1


def test_other_published_weights(project: Path) -> None:
    place = project / "resources/weights/april_gan/visa/visa_pretrained.pth"
    place.parent.mkdir(parents=True)

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        layers = {f"fc.{tap}.weight": torch.randn(128, 128) for tap in range(4)}
        layers |= {f"fc.{tap}.bias": torch.randn(128) for tap in range(4)}
        torch.save({"trainable_linearlayer": layers}, place)

    write(0)
    row = {"weights": "published", "recipe": "published", "backbone": "kanoclip-tiny-128"}
    values = {"auxiliary": "visa", "methods": {"april_gan": row}, "backbones": {"kanoclip-tiny-128": TINY}}
    checkpoint = "results/replaced/models/april_gan/kanoclip-tiny-128/visa/seed1/checkpoint.safetensors"
    options = run(project, values, checkpoint)
    write(1)
    assert planned(project, *options)["import_weights"] == 1


def test_names_that_differ_in_punctuation_only_make_two_passes(project: Path) -> None:
    values = {
        "auxiliary": "synthetic_auxiliary",
        "methods": {"clip": None},
        "backbones": {"kanoclip-tiny-128": TINY},
        "targets": ["line-1", "line_1"],
        "datasets": {"line-1": {"path": "a"}, "line_1": {"path": "b"}},
    }
    for name in "ab":
        (project / name / "good").mkdir(parents=True)
    (project / "replaced.yaml").write_text(yaml.safe_dump(COMMON | values))
    jobs = planned(project, "--configfile", "replaced.yaml")
    assert sum(name.startswith("score_kanoclip_tiny_128_line_1_") for name in jobs) == 2
