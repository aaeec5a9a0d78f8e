"""Compare the plan of a run with numbers computed by hand."""

import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from kanoclip.cli.plan import read_configuration
from kanoclip.config import Configuration, parse
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec, load_spec
from kanoclip.plan import make_plan, render, summary_line
from kanoclip.protocol import describe
from kanoclip.rates import Rates, hours, unrated
from kanoclip.types import InputError

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


def configuration(name: str, **changes: Any) -> Configuration:
    return parse(Configuration, yaml.safe_load((ROOT / "config" / name).read_text()) | changes, name)


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 80 * 10**9))


def test_features_and_jobs_of_the_paper_equal_values_by_hand(tmp_path: Path) -> None:
    config = configuration("config.yaml")
    plan = make_plan(config, describe(config), tmp_path)
    sizes = {one.name: one.features for one in plan.datasets}
    # four stages of both streams, 37 x 37 patches and the class token, 1,024 wide; the last class token; fp16
    image = 2 * (8 * 1370 * 1024 + 1024)
    assert sizes.pop("mvtec_ad") == 1725 * image
    assert sizes.pop("visa") == 2162 * image
    assert set(sizes.values()) == {0}  # features of the targets are not stored
    assert plan.features == plan.missing == 3887 * image <= 90e9
    assert sum(plan.jobs.values()) == 79 <= 110  # the numbers of a dry run of Snakemake
    assert plan.ablations == {"train": 20, "score": 12, "evaluate": 12}
    by_hand = [one.name for one in plan.datasets if one.get == "by hand"]
    assert by_hand == ["mpdd", "dagm", "brainmri", "liverct", "resc", "br35h", "covid19", "headct"]
    assert plan.weights == ("clip-l14-518",)


def test_a_disk_that_is_too_small_is_refused_in_one_line(tmp_path: Path) -> None:
    config = configuration("config.yaml")
    with pytest.raises(InputError) as caught:
        make_plan(config, describe(config), tmp_path).check()
    assert str(caught.value).startswith("results/paper: the features need 87.3 GB, 80.0 GB of the disk are free")
    assert "\n" not in str(caught.value)
    live = configuration("config.yaml", cache=[])
    plan = make_plan(live, describe(live), tmp_path)
    plan.check()
    assert plan.features == 0 and plan.jobs["encode"] == 0


def test_stored_features_need_no_more_space(tmp_path: Path) -> None:
    config = configuration("config.yaml")
    run = describe(config)
    needed = make_plan(config, run, tmp_path).missing
    path = tmp_path / "results/paper/features/clip-l14-518/visa.h5.partial"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * 1000)
    assert make_plan(config, run, tmp_path).missing == needed - 1000


def test_prepared_images_are_counted_and_others_are_unknown(tmp_path: Path, index: Path) -> None:
    config = configuration("quickstart.yaml", targets=["mine"], datasets={"mine": {"path": "here"}})
    run = describe(config)
    before = make_plan(config, run, tmp_path)
    assert before.datasets[0].images is None and "unknown" in render(before)
    place = tmp_path / "results/quickstart/data/mine/index.csv"
    place.parent.mkdir(parents=True)
    prepare(folder_spec("mine", {}), place, tmp_path, index.parent / "images")
    after = make_plan(config, run, tmp_path).datasets[0]
    assert (after.images, after.counted) == (16, True)


def test_limits_and_drawn_images_are_in_the_plan(tmp_path: Path) -> None:
    config = configuration("quickstart.yaml")
    plan = make_plan(config, describe(config), tmp_path)
    found = {one.name: one.images for one in plan.datasets}
    assert found == {"synthetic": 192, "elpv": 200, "textile": 200, "synthetic_auxiliary": 320}
    # the four stages of both streams, 16 x 16 patches and the class token, 128 wide; the last class token; fp16
    assert plan.features == 320 * 2 * (8 * 257 * 128 + 128)
    assert load_spec("mvtec_ad").count() == 1725 and load_spec("mvtec_ad").count(2) == 60
    line = summary_line(config, describe(config), tmp_path)
    assert line.startswith("Plan of quickstart: 912 images of 4 datasets; 31 jobs") and "\n" not in line


def test_hours_are_work_over_rate(tmp_path: Path) -> None:
    changes = {"methods": {"clip": None, "kanoclip": {"epochs": 5}}, "ablations": {}, "seeds": [1, 2]}
    config = configuration("quickstart.yaml", targets=["synthetic"], **changes)
    run = describe(config)
    images = {"synthetic": 192, "synthetic_auxiliary": 320}
    rates = Rates(towers=10, scoring={"clip": 3.0}, training={"kanoclip": 2.0}, evaluation=0.5)
    found = hours(run, images, rates)
    assert found is not None
    tokens = 257 * 128 / 1e6
    assert found["train"] == pytest.approx(2.0 * tokens * 5 * 320 * 2 / 3600)
    assert found["evaluate"] == pytest.approx(0.5 * 0.128**2 * 192 * 3 / 3600)  # clip once, kanoclip twice
    for folds, trainings in ((1, 2.5), (2, 3), (4, 5)):  # two seeds and the thresholds
        more = hours(run, images, rates, folds)
        assert more is not None and more["train"] == pytest.approx(found["train"] * trainings / 2)
    faster = hours(run, images, rates.model_copy(update={"towers": 20.0}))
    assert faster is not None and faster["encode"] == pytest.approx(found["encode"] / 2)
    assert found["score"] - faster["score"] == pytest.approx((found["score"] - 3.0 * tokens * 192 / 3600) / 2)
    assert hours(run, images, None) is None


def test_rows_whose_methods_have_no_rate_are_named_and_controls_are_not(tmp_path: Path) -> None:
    methods = {"clip": None, "april_gan": None, "mine": {"method": "kanoclip"}, "oracle": None}
    run = describe(configuration("quickstart.yaml", targets=["synthetic"], methods=methods, ablations={}))
    scoring = {"clip": 3.0, "april_gan": 3.0, "kanoclip": 3.0}
    rates = Rates(towers=10, scoring=scoring, training={"april_gan": 2.0}, evaluation=0.5)
    assert unrated(run, rates) == ["mine"]  # no rate of training
    assert unrated(run, rates.model_copy(update={"scoring": {"clip": 3.0}})) == ["april_gan", "mine"]
    assert unrated(run, None) == []


def test_configurations_are_merged_as_snakemake_merges_them(tmp_path: Path) -> None:
    files = {
        "a": {"run": "a", "methods": {"clip": None, "kanoclip": {"epochs": 3}}},
        "b": {"methods": {"clip": {"x": 1}}},
    }
    expected: dict[str, Any] = {}
    for name, values in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(values))
        update_config(expected, values)
    changes = {"run": "c", "datasets": {"visa": {"limit": 4}}}
    update_config(expected, changes)
    assert read_configuration([tmp_path / "a", tmp_path / "b"], changes) == expected
    (tmp_path / "b").write_text("- a list")
    with pytest.raises(InputError, match="expected keys and values in YAML, found list"):
        read_configuration([tmp_path / "b"], {})


def test_the_command_needs_no_torch_once_a_configuration_is_known(tmp_path: Path) -> None:
    code = (
        "import sys; from kanoclip.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "plan", "--configfile", str(ROOT / "config/quickstart.yaml")]
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""}
    first, second = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert "jobs:     31" in first and first.splitlines()[-1] == "True"
    plans = [
        re.sub(r"\d+\.\d+ GB of the disk", "", text).splitlines() for text in (first, second)
    ]  # other processes write too
    assert plans[0][:-1] == plans[1][:-1] and plans[1][-1] == "False"


def test_without_a_cache_towers_run_in_every_epoch_of_every_seed() -> None:
    rates = Rates(towers=1.0, scoring={}, training={}, evaluation=0.0)
    images = {"synthetic_auxiliary": 320, "synthetic": 0, "elpv": 0, "textile": 0}
    changes: dict[str, Any] = {"methods": {"april_gan": {"epochs": 3}}, "ablations": {}}
    cached, live = (
        hours(describe(configuration("quickstart.yaml", **changes, cache=cache)), images, rates)
        for cache in (["auxiliary"], [])
    )
    assert cached and live
    assert live["encode"] == pytest.approx(cached["encode"] * 3 * 3)  # three epochs of three seeds
