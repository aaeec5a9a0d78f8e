"""Run `snakemake pretrain` from scratch: photographs from a local server, the drawn stages, then the final one."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from photograph_archives import changed_specs, serving, write_dtd, write_imagenet
from test_workflow import NEEDED, ROOT, planned, snakemake

from kanoclip.pretraining.photographs import read_photographs

STEPS = {f"{name}_steps": 2 for name in ("text", "small", "large", "mixed", "final")}
SIZES = {"pairs": 70, "composite_pairs": 16, "validation_pairs": 56, "final_batch": 16}

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the repository."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def test_one_command_downloads_photographs_and_trains_weights(project: Path, tmp_path: Path) -> None:
    archives = tmp_path / "server"
    archives.mkdir()
    textures = write_dtd(archives / "dtd-r1.0.1.tar.gz", each=4)
    objects = write_imagenet(archives / "imagenet-sample-images.zip", each=4)
    configfile = project / "tiny.yaml"
    values = yaml.safe_load((project / "config/pretraining.yaml").read_text())
    values["pretraining"] |= STEPS | SIZES
    configfile.write_text(yaml.safe_dump(values, sort_keys=False))
    with serving(archives) as (address, requests):
        specs = changed_specs(address, archives, {"dtd": len(textures), "imagenet_sample": len(objects)})
        for name, spec in specs.items():
            path = project / f"kanoclip/datasets/public_photographs/{name}.yaml"
            path.write_text(yaml.safe_dump(spec, sort_keys=False))
        ran = snakemake(project, "pretrain", "--configfile", "tiny.yaml")
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert sorted(requests) == ["/dtd-r1.0.1.tar.gz", "/imagenet-sample-images.zip"]

    results = project / "results/pretraining"
    assert len(read_photographs(results / "photographs")) == len(textures) + len(objects)
    assert pd.read_csv(results / "train.csv")["step"].tolist()[-1] == 6  # small, large and mixed
    assert pd.read_csv(results / "final_train.csv")["step"].tolist() == [2]
    written = json.loads((results / "results.json").read_text())
    assert "held_out_composites" in written["results"]
    assert written["recipe"]["start"] == "nothing" and written["share_of_the_end"] == 1
    assert (results / "kanoclip-tiny.safetensors").stat().st_size > 1e6
    assert (results / "learning_curves.png").is_file() and (results / "final_curves.png").is_file()

    assert planned(project, "pretrain", "--configfile", "tiny.yaml") == {}  # nothing is left to do
    values["pretraining"]["photographs"] = ["dtd"]
    configfile.write_text(yaml.safe_dump(values, sort_keys=False))
    assert {"public_photographs", "pretrain_towers"} <= set(planned(project, "pretrain", "--configfile", "tiny.yaml"))


def test_the_shipped_configuration_plans_downloads_and_training(project: Path) -> None:
    jobs = planned(project, "pretrain", "--configfile", "config/pretraining.yaml")
    once = dict.fromkeys(("public_photographs", "pretrain_towers", "pretrain"), 1)
    assert jobs == {"download": 2, "pretraining_curves": 2, **once, "total": 7}
    values = yaml.safe_load((project / "config/pretraining.yaml").read_text())
    values["pretraining"]["start"] = "embedded"  # the final steps only
    (project / "final.yaml").write_text(yaml.safe_dump(values))
    assert planned(project, "pretrain", "--configfile", "final.yaml")["pretraining_curves"] == 1
