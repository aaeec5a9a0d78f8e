"""Run every stage from the command line without Snakemake, and check that every mistake gives one line."""

import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanoclip import cli
from kanoclip.code_digest import Package

TAP = ["--tap", "vv/6"]
TINY = ["--set", "model=kanoclip-test", "--set", "weights=random:0", "--set", "image_size=32"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command and return its error line, or "" if it succeeded."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["kanoclip", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return "" if caught.value.code in (0, None) else str(caught.value.code)

    return call


@pytest.fixture
def parts(tmp_path: Path, write_folder: Callable[..., Path]) -> Path:
    return write_folder(tmp_path / "parts")


def test_arguments_can_be_read_from_standard_input(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They can be longer than the longest command line and the longest argument of the system."""

    def given(*lines: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))

    given("metrics", "")
    assert run("list", "@-") == "" and "image auroc" in capsys.readouterr().out
    given(*(f"--methods=row{number:050}" for number in range(50_000)), "--methods=" + "x" * 200_000)
    line = run("figure", "@-", "bars=bars.png")
    assert (
        line
        == "error: figure bars: expected --metrics, found none; give the long-format metrics.csv of `kanoclip tables`"
    )


def test_help_lists_a_command_for_each_stage(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == ""
    text = capsys.readouterr().out
    for stage in ("download", "prepare", "knowledge", "encode", "train", "score", "evaluate", "tables", "page"):
        assert f"\n  {stage} " in text


def test_every_stage_runs_from_the_command_line(run: Callable[..., str], parts: Path, tmp_path: Path) -> None:
    index, features, knowledge = tmp_path / "index.csv", tmp_path / "features.h5", tmp_path / "knowledge.jsonl"
    models, scored = tmp_path / "models", tmp_path / "scored"
    small = ["epochs=1", "width=16", "heads=2", "deform_groups=2", "bottleneck=8", "prompt_length=2"]
    options = [part for pair in small for part in ("--set", pair)]
    data = ["--features", features, "--index", index]
    taps = [part for tap in ("cls/6", "vv/2", "vv/3", "vv/4", "vv/6") for part in ("--tap", tap)]
    assert run("prepare", "--dataset", "parts", "--path", parts, "--class-name", "nut=wing nut", "--out", index) == ""
    assert run("knowledge", "--dataset", "parts", "--index", index, "--out", knowledge) == ""
    assert run("encode", "--index", index, "--out", features, *taps, *TINY) == ""
    named = ["--auxiliary", "parts", "--knowledge", knowledge, "--seed", 1, "--seed", 2]
    assert run("train", "--method", "kanoclip", *options, *data, *named, "--out", models) == ""
    checkpoints = [models / f"seed{seed}" / "checkpoint.safetensors" for seed in (1, 2)]
    assert all(path.is_file() and path.with_name("train.csv").is_file() for path in checkpoints)
    trained = ["--method", "kanoclip", "--checkpoint", checkpoints[0]]
    assert run("score", *trained, *data, "--out", scored) == ""
    live = ["--index", index, *(part.replace("--set", "--backbone-set") for part in TINY)]
    assert run("score", *trained, *live, "--out", tmp_path / "live") == ""
    assert (tmp_path / "live" / "scores.h5").read_bytes() == (scored / "scores.h5").read_bytes()
    assert run("evaluate", scored, "--index", index) == ""
    frame = pd.read_csv(scored / "metrics.csv")
    assert set(frame["class_name"]) == {"wing nut", "bolt", "mean"}
    assert set(frame["backbone"]) == {"kanoclip-test"}
    assert frame["value"].between(0, 1).all()
    assert {json.loads(line)["class_name"] for line in knowledge.read_text().splitlines()} == {"wing nut", "bolt"}


def test_lists_come_from_the_registries(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in {
        "datasets": "mvtec_ad",
        "methods": "kanoclip",
        "backbones": "kanoclip-tiny",
        "metrics": "pixel aupro",
    }.items():
        assert run("list", what) == ""
        assert name in capsys.readouterr().out.splitlines()
    assert "did you mean 'methods'?" in run("list", "methds")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--dataset", "mvtek_ad", "--out", "OUT"], "unknown dataset 'mvtek_ad'; did you mean 'mvtec_ad'?"),
        (
            ["prepare", "--dataset", "mpdd", "--path", ".", "--class-name", "tubes=pipe", "--out", "OUT"],
            "--class-name: only for a dataset of your own, found mpdd;",
        ),
        (["encode", "--index", "nowhere.csv", "--out", "OUT", *TAP], "nowhere.csv: expected a file, found none"),
        (["encode", "--index", "INDEX", "--out", "OUT", *TAP, "--set", "x"], "expected KEY=VALUE, found 'x'"),
        (["encode", "--index", "INDEX", "--out", "OUT", *TAP, "--set", "modl=a"], "did you mean 'model'?"),
        (
            ["encode", "--index", "INDEX", "--out", "OUT", *TINY, "--tap", "vv/six"],
            "tap 'vv/six': expected KIND/BLOCK such as vv/24",
        ),
        (
            ["encode", "--index", "INDEX", "--out", "OUT", *TINY, "--tap", "tokens/99"],
            "tap tokens/99: the tower has 6 blocks",
        ),
        (
            ["encode", "--index", "INDEX", "--out", "OUT", *TAP, "--set", "model=ViT-L-41"],
            "unknown backbone 'ViT-L-41'",
        ),
        (
            ["score", "--method", "klip", "--features", "INDEX", "--index", "INDEX", "--out", "OUT"],
            "unknown method 'klip'; did you mean 'clip'?",
        ),
        (
            ["score", "--method", "clip", "--index", "INDEX", "--out", "OUT"],
            "give --features, or the backbone that computes them with --backbone-set",
        ),
        (
            [
                "score-pass",
                "--results",
                "OUT",
                "--backbone",
                "b",
                "--target",
                "t",
                "--backbone-set",
                "model=x",
                "--row",
                "[]",
            ],
            "--row: expected a JSON object, found '[]'",
        ),
    ],
)
def test_mistakes_give_one_line_and_leave_no_files(
    run: Callable[..., str], index: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {"OUT": tmp_path / "out", "INDEX": index}
    line = run(*[places.get(argument, argument) for argument in arguments])
    assert line.startswith("error: ") and message in line and "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_method_file_with_a_mistake_is_named(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "methods" / "mine.py"
    file.parent.mkdir()
    file.write_text('@register("mine")\nclass Mine:\n    sigma = = 4.0\n')
    monkeypatch.setattr("kanoclip.code_digest.installed", lambda: Package(tmp_path))
    assert run("list", "methods") == f"error: {file}, line 3: expected Python, found invalid syntax; correct the file"


def test_unreadable_images_and_masks_stop_prepare(run: Callable[..., str], parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "index.csv"

    def prepare() -> str:
        line = run("prepare", "--dataset", "parts", "--path", parts, "--out", out)
        assert line.startswith("error: ") and "\n" not in line and not out.exists()
        return line

    image, mask = parts / "nut/test/spot/001.png", parts / "nut/ground_truth/spot/001_mask.png"
    whole_image, whole_mask = image.read_bytes(), mask.read_bytes()
    image.write_bytes(whole_image[:400])
    assert str(image) in prepare()
    image.write_bytes(whole_image)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(mask)
    assert "40x40 pixels, its image 48x40" in prepare()
    mask.unlink()
    assert "001" in prepare()
    mask.write_bytes(whole_mask)
    for file in (parts / "bolt/test/good").iterdir():
        file.unlink()
    assert "bolt" in prepare()


def test_a_full_disk_is_reported_in_one_line(
    run: Callable[..., str], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "index.csv")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    line = run("prepare", "--dataset", "parts", "--path", parts, "--out", tmp_path / "index.csv")
    assert line == "error: index.csv: cannot be read or written: No space left on device; free space and run again"
    assert not (tmp_path / "index.csv").exists()


def test_scores_of_other_images_are_refused(
    run: Callable[..., str], index: Path, features: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.h5"
    assert run("score", "--method", "clip", "--features", features, "--index", index, "--out", tmp_path) == ""
    with h5py.File(scores, "r+") as file:
        del file.attrs["digest"]  # like a file by another program
        file["image"][0] = "elsewhere.png"
    line = run("evaluate", tmp_path, "--index", index)
    assert "elsewhere.png" in line and "score again with this index" in line
    assert not (tmp_path / "metrics.csv").exists()
