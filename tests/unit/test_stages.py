"""Stages compute what is missing and nothing else, whatever was killed before."""

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kanoclip.backbones.clip import Backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import read_index
from kanoclip.methods import AnomalyOutput, Batch, method_class
from kanoclip.methods.controls import Random
from kanoclip.scoring import ScoresInProgress, score
from kanoclip.stages import Dataset, Scored, score_stage, train_stage
from kanoclip.types import InputError

PROCESSES = multiprocessing.get_context("fork")  # starts in milliseconds
ROWS = {"clip": 0, "clip_ac": 0, "winclip": 0, "random": 1, "oracle": 0}


@pytest.fixture
def live(index: Path, tiny_config: BackboneConfig) -> Dataset:
    return Dataset("parts", index, backbone=tiny_config)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed: "tower" for each batch that went through it, "row" and "seed 3" for each of them."""
    done: list[str] = []
    encode, finish = Backbone.encode_images, ScoresInProgress.finish

    def counted_encode(self: Backbone, *arguments: object) -> object:
        done.append("tower")
        return encode(self, *arguments)

    def counted_finish(self: ScoresInProgress, path: Path, attributes: dict[str, object]) -> None:
        done.append(str(attributes["method"]))
        finish(self, path, attributes)

    def counted_fit(method: torch.nn.Module, *arguments: object) -> str:
        done.append(f"seed {method.seed}")
        return fit(method, *arguments)

    from kanoclip.stages.training import fit

    monkeypatch.setattr(Backbone, "encode_images", counted_encode)
    monkeypatch.setattr(ScoresInProgress, "finish", counted_finish)
    monkeypatch.setattr("kanoclip.stages.training.fit", counted_fit)
    return done


def rows_below(out: Path, **changes: dict[str, object]) -> list[Scored]:
    return [Scored(name, name, out / name, changes.get(name, {}), seed=seed) for name, seed in ROWS.items()]


def scores_below(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/scores.h5"))}


def test_a_pass_writes_what_each_row_scores_alone(live: Dataset, backbone: Backbone, tmp_path: Path) -> None:
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=6)
    frame, source = live.frame(), live.open("cpu", live.frame())[1]
    for name, seed in ROWS.items():
        kind = method_class(name)
        method = kind(backbone, kind.Options(), seed)
        maps, scores = score(method, source, frame, batch_size=6)
        with h5py.File(tmp_path / name / "scores.h5") as file:
            assert set(file) == {"image", "class_name", "map", "image_score"}
            assert np.array_equal(file["map"][:], maps) and np.array_equal(file["image_score"][:], scores)
            assert file["image"].asstr()[:].tolist() == frame["image"].tolist()
            assert file["class_name"].asstr()[:].tolist() == frame["class_name"].tolist()
            assert (file.attrs["method"], file.attrs["seed"], file.attrs["auxiliary"]) == (name, seed, "none")
        cost = json.loads((tmp_path / name / "cost.json").read_text())
        assert (cost["method"], cost["images"], cost["learnable_parameters"]) == (name, 16, 0)


def test_a_second_pass_computes_nothing(
    live: Dataset, work: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a backbone is built; outputs that were deleted, as Snakemake does, are there again."""
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=6)
    assert work.count("tower") == 3 and work[3:] == list(ROWS)
    first = scores_below(tmp_path)
    for name in ("clip", "random"):
        (tmp_path / name / "scores.h5").unlink()
    work.clear()
    monkeypatch.setattr("kanoclip.stages.dataset.load_backbone", None)
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=6)
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=16)
    assert work == [] and scores_below(tmp_path) == first


def test_only_the_row_whose_options_changed_is_scored_again(live: Dataset, work: list[str], tmp_path: Path) -> None:
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store")
    first = scores_below(tmp_path)
    work.clear()
    changed = rows_below(tmp_path, clip={"temperature": 0.5})
    score_stage(changed, live, "tiny", "cpu", tmp_path / "store")
    assert work == ["tower", "clip"]
    second = scores_below(tmp_path)
    assert [name for name in ROWS if first[name] != second[name]] == ["clip"]
    work.clear()
    spelt_out = rows_below(tmp_path, clip=method_class("clip").Options().model_dump())  # the defaults, and back
    score_stage(spelt_out, live, "tiny", "cpu", tmp_path / "store")
    assert work == [] and scores_below(tmp_path) == first


def test_a_new_row_is_scored_alone_and_a_new_backbone_scores_all(
    live: Dataset, tiny_config: BackboneConfig, work: list[str], tmp_path: Path
) -> None:
    rows = rows_below(tmp_path)
    score_stage(rows[:2], live, "tiny", "cpu", tmp_path / "store")
    work.clear()
    score_stage(rows, live, "tiny", "cpu", tmp_path / "store")
    assert work == ["tower", *list(ROWS)[2:]]
    work.clear()
    other = Dataset("parts", live.index, backbone=tiny_config.model_copy(update={"weights": "random:1"}))
    score_stage(rows, other, "tiny", "cpu", tmp_path / "store")
    assert work == ["tower", *ROWS]


def test_a_retrained_checkpoint_is_scored_again(
    live: Dataset, knowledge: Path, work: list[str], tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "models"
    train_stage("april_gan", {"epochs": 1}, live, knowledge, out, [1], "cpu", store)
    checkpoint = out / "seed1" / "checkpoint.safetensors"
    rows = [Scored("april_gan", "april_gan", tmp_path / "a", checkpoint=checkpoint), *rows_below(tmp_path)[:1]]
    score_stage(rows, live, "tiny", "cpu", store)
    work.clear()
    score_stage(rows, live, "tiny", "cpu", store)
    assert work == []
    with_header = checkpoint.read_bytes()
    checkpoint.unlink()  # it is linked to the store
    length = int.from_bytes(with_header[:8], "little")
    header = json.loads(with_header[8 : 8 + length])["__metadata__"]
    (tmp_path / "copy").write_bytes(with_header)
    save_file({name: value + 0.1 for name, value in load_file(tmp_path / "copy").items()}, checkpoint, header)
    score_stage(rows, live, "tiny", "cpu", store)
    assert work == ["tower", "april_gan"]


def test_only_a_new_seed_is_trained(
    live: Dataset, index: Path, features: Path, knowledge: Path, work: list[str], tmp_path: Path
) -> None:
    def train(seeds: list[int], **options: object) -> dict[int, bytes]:
        out = tmp_path / "models"
        cached = Dataset("parts", index, features)
        train_stage("april_gan", {"epochs": 1, **options}, cached, knowledge, out, seeds, "cpu", tmp_path / "store")
        return {seed: (out / f"seed{seed}" / "checkpoint.safetensors").read_bytes() for seed in seeds}

    first = train([1, 2])
    assert work == ["seed 1", "seed 2"]
    work.clear()
    second = train([1, 2, 3])
    assert work == ["seed 3"] and first.items() <= second.items()
    assert len(set(second.values())) == 3
    work.clear()
    (tmp_path / "models" / "seed2" / "train.csv").unlink()
    assert train([2, 3]) == {seed: second[seed] for seed in (2, 3)} and work == []
    assert train([2], learning_rate=0.1)[2] != second[2] and work == ["seed 2"]
    work.clear()
    lines = knowledge.read_text().splitlines()
    knowledge.write_text("\n".join([*lines, lines[0].replace("cracked", "bent")]) + "\n")
    train([2])
    assert work == ["seed 2"]


def test_a_row_that_fails_does_not_cost_the_others_and_says_so_at_the_end(
    live: Dataset, work: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Random, batch: Batch) -> AnomalyOutput:
        return AnomalyOutput(torch.full((len(batch.images), 4, 4), float("nan")), torch.zeros(len(batch.images)))

    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(Random, "forward", broken)
        score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=6)
    assert str(caught.value) == f"{read_index(live.index)['image_path'][0]}: its map is not finite"
    assert list(scores_below(tmp_path)) == sorted(set(ROWS) - {"random"})
    work.clear()
    score_stage(rows_below(tmp_path), live, "tiny", "cpu", tmp_path / "store", batch_size=6)
    assert work == ["random"]  # which needs no tower


def killed_at_random(run: Callable[[], None], moments: list[float]) -> int:
    """Start a process again and again and kill it after so many seconds of work; returns how often it was killed."""
    for number, moment in enumerate(moments):
        child = PROCESSES.Process(target=run)
        child.start()
        child.join(moment)
        if not child.is_alive():
            assert child.exitcode == 0
            return number
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    return len(moments)


def test_a_pass_killed_at_any_moment_ends_with_the_same_bytes(
    live: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at random moments; what was scored before a kill is not scored again."""
    score_stage(rows_below(tmp_path / "whole"), live, "tiny", "cpu", tmp_path / "whole" / "store", batch_size=2)
    store, batches = tmp_path / "killed" / "store", tmp_path / "batches"
    write = ScoresInProgress.write

    def slow(self: ScoresInProgress, *arguments: object) -> None:
        time.sleep(0.02)
        write(self, *arguments)
        with batches.open("a") as file:
            file.write(".")

    def run() -> None:
        torch.set_num_threads(1)
        score_stage(rows_below(tmp_path / "killed"), live, "tiny", "cpu", store, batch_size=2)

    chance = random.Random(0)
    with monkeypatch.context() as patch:
        patch.setattr(ScoresInProgress, "write", slow)
        killed = killed_at_random(run, [0.3 + chance.random() for _ in range(8)])
    assert killed >= 2
    run()
    assert scores_below(tmp_path / "killed") == scores_below(tmp_path / "whole")
    assert len(scores_below(tmp_path / "killed")) == len(ROWS)
    assert not any((store / "partial").iterdir())
    # 8 batches of 5 rows; a kill costs at most the five that were on their way
    assert len(batches.read_text()) <= 8 * 5 + 5 * killed


def test_a_training_killed_at_any_moment_ends_with_the_same_bytes(
    index: Path, features: Path, knowledge: Path, tmp_path: Path
) -> None:
    data = Dataset("parts", index, features)

    def train(out: Path) -> None:
        torch.set_num_threads(1)
        train_stage("april_gan", {"epochs": 20}, data, knowledge, out, [1, 2], "cpu", out / "store")

    train(tmp_path / "whole")
    chance = random.Random(1)
    killed = killed_at_random(lambda: train(tmp_path / "killed"), [0.4 + chance.random() / 2 for _ in range(6)])
    assert killed >= 2
    train(tmp_path / "killed")
    for seed in (1, 2):
        whole, again = (tmp_path / name / f"seed{seed}" / "checkpoint.safetensors" for name in ("whole", "killed"))
        assert whole.read_bytes() == again.read_bytes()
