"""Stages compute exactly the missing results, also after earlier runs were killed."""

import io
import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.context import ForkServerContext
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
from kanoclip.scoring.classes import AfterClass
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage
from kanoclip.training import loop
from kanoclip.training.state import DIGEST_BYTES
from kanoclip.types import InputError

ROWS = {"clip": 0, "clip_ac": 0, "winclip": 0, "random": 1, "oracle": 0}


@pytest.fixture
def live(index: Path, tiny_config: BackboneConfig) -> Dataset:
    return Dataset("parts", index, backbone=tiny_config)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what is computed: "tower" per batch, "row" per scored row, "seed 3" per training of seed 3."""
    done: list[str] = []
    encode, finish = Backbone.encode_images, ScoresInProgress.finish

    def counted_encode(self: Backbone, *arguments: object) -> object:
        done.append("tower")
        return encode(self, *arguments)

    def counted_finish(
        self: ScoresInProgress, path: Path, attributes: dict[str, object], after_class: AfterClass
    ) -> None:
        done.append(str(attributes["method"]))
        finish(self, path, attributes, after_class)

    def counted_fit(method: torch.nn.Module, *arguments: object) -> str:
        done.append(f"seed {method.seed}")
        return fit(method, *arguments)

    from kanoclip.stages.fitting import fit

    monkeypatch.setattr(Backbone, "encode_images", counted_encode)
    monkeypatch.setattr(ScoresInProgress, "finish", counted_finish)
    monkeypatch.setattr("kanoclip.stages.fitting.fit", counted_fit)
    return done


def rows_below(out: Path, **changes: dict[str, object]) -> list[Scored]:
    return [Scored(name, name, out / name, changes.get(name, {}), seed=seed) for name, seed in ROWS.items()]


def scores_below(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/scores.h5"))}


def test_a_pass_gives_the_scores_of_each_row_alone(live: Dataset, backbone: Backbone, tmp_path: Path) -> None:
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
    """It does not even build a backbone; outputs that were deleted, as Snakemake does, are restored."""
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
    spelt_out = rows_below(tmp_path, clip=method_class("clip").Options().model_dump())  # back to the defaults
    score_stage(spelt_out, live, "tiny", "cpu", tmp_path / "store")
    assert work == [] and scores_below(tmp_path) == first


def test_a_new_row_is_scored_alone_and_a_new_backbone_rescores_all_rows(
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
    checkpoint.unlink()  # it is a link to the store
    length = int.from_bytes(with_header[:8], "little")
    record = json.loads(json.loads(with_header[8 : 8 + length])["__metadata__"]["kanoclip"])
    del record["digest"]  # like a checkpoint of an earlier version, which has no digest of its content
    header = {"kanoclip": json.dumps(record | {"format": 2})}
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


def test_a_row_that_fails_does_not_stop_the_others_and_is_reported_at_the_end(
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
    assert work == ["random"]  # this row needs no tower


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Return processes that start with the package imported and one thread, so that results equal those of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["kanoclip.stages"])
        yield context


def unhurried(stage: Callable[..., None], *arguments: object) -> None:
    """Run a stage with a pause after each image and step, so that it is still running when it is killed."""

    def paused(function: Callable[..., object]) -> Callable[..., object]:
        def then_wait(*given: object) -> object:
            result = function(*given)
            time.sleep(0.01)
            return result

        return then_wait

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoresInProgress, "write", paused(ScoresInProgress.write))
        patch.setattr(loop, "_step", paused(loop._step))
        stage(*arguments)


def killed_at_random(
    processes: ForkServerContext, stage: Callable[..., None], arguments: tuple[object, ...], progress: Callable[[], int]
) -> list[int]:
    """Start a stage four times and kill it at a random moment after some progress; return the progress each time."""
    chance, reached = random.Random(0), [0]
    for _ in range(4):
        child = processes.Process(target=unhurried, args=(stage, *arguments))
        child.start()
        while progress() <= reached[-1] and child.is_alive():
            time.sleep(0.005)
        time.sleep(chance.random() / 50)
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        if child.exitcode == 0:
            break
        reached.append(progress())
    return reached[1:]


def state_in(path: Path) -> dict[str, object]:
    """Return the state of a training without its digest."""
    return torch.load(io.BytesIO(path.read_bytes()[DIGEST_BYTES:]))


def results_in(store: Path, state: str, whole: int, part: Callable[[Path], int]) -> int:
    """Sum the progress in a store: `whole` per finished result, plus the progress of unfinished ones."""
    finished = {path.name for path in store.glob("kept/*")}
    total = whole * len(finished)
    for path in store.glob(f"partial/*/unfinished/{state}"):
        with suppress(FileNotFoundError):  # finished in the meantime
            total += 0 if path.parents[1].name in finished else part(path)
    return total


def test_a_pass_killed_at_any_moment_gives_byte_identical_results(
    live: Dataset, processes: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send SIGKILL at random moments; images scored before a kill are not scored again."""
    score_stage(rows_below(tmp_path / "whole"), live, "tiny", "cpu", tmp_path / "whole" / "store", batch_size=1)
    rows, store = rows_below(tmp_path / "killed"), tmp_path / "killed" / "store"

    def scored() -> int:
        return results_in(store, "checksum.npy", 16, lambda path: int(np.count_nonzero(np.load(path))))

    reached = killed_at_random(processes, score_stage, (rows, live, "tiny", "cpu", store, 1), scored)
    assert len(reached) >= 2 and 0 < reached[0] < reached[-1] <= 5 * 16
    written: list[range] = []
    write = ScoresInProgress.write

    def counted(self: ScoresInProgress, rows: range, *arguments: object) -> None:
        written.append(rows)
        write(self, rows, *arguments)

    monkeypatch.setattr(ScoresInProgress, "write", counted)
    score_stage(rows, live, "tiny", "cpu", store, batch_size=1)
    assert len(written) == 5 * 16 - reached[-1]
    assert scores_below(tmp_path / "killed") == scores_below(tmp_path / "whole")
    assert len(scores_below(tmp_path / "killed")) == len(ROWS)
    assert not any((store / "partial").iterdir())


def test_a_training_killed_at_any_moment_gives_byte_identical_results(
    index: Path,
    features: Path,
    knowledge: Path,
    processes: ForkServerContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Send SIGKILL at random moments of two seeds; epochs finished before a kill are not trained again."""
    epochs = 25
    data = Dataset("parts", index, features)

    def arguments(out: Path) -> tuple[object, ...]:
        return "april_gan", {"epochs": epochs}, data, knowledge, out, [1, 2], "cpu", out / "store"

    def trained() -> int:
        store = tmp_path / "killed" / "store"
        return results_in(store, "state.pt", epochs, lambda path: len(state_in(path)["rows"]) // 2)

    train_stage(*arguments(tmp_path / "whole"))
    reached = killed_at_random(processes, train_stage, arguments(tmp_path / "killed"), trained)
    assert len(reached) >= 2 and 0 < reached[0] < reached[-1] <= 2 * epochs
    steps: list[int] = []
    step = loop._step
    monkeypatch.setattr(loop, "_step", lambda *given: steps.append(given[-1]) or step(*given))
    train_stage(*arguments(tmp_path / "killed"))
    assert len(steps) == 2 * (2 * epochs - reached[-1])  # two batches per epoch
    for seed in (1, 2):
        whole, again = (tmp_path / name / f"seed{seed}" / "checkpoint.safetensors" for name in ("whole", "killed"))
        assert whole.read_bytes() == again.read_bytes()
