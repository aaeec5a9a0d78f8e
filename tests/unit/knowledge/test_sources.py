"""Make knowledge.jsonl from an index with the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from knowledge_server import KEY, VARIABLE, ChatServer, fails, says

from kanoclip import cli
from kanoclip.config import KnowledgeConfig
from kanoclip.datasets.index import load_image, load_mask, read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec
from kanoclip.knowledge.describe import describe
from kanoclip.knowledge.jsonl import read_descriptions, read_image_knowledge, read_knowledge
from kanoclip.knowledge.sources import collect, from_masks


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, index: Path, tmp_path: Path) -> Callable[..., str]:
    """Run `kanoclip knowledge` for the test dataset and return its error line, or "" if it succeeded."""

    def call(*settings: str) -> str:
        arguments = ["--dataset", "parts", "--index", str(index), "--out", str(tmp_path / "knowledge.jsonl")]
        monkeypatch.setattr(sys, "argv", ["kanoclip", "knowledge", *arguments, *settings])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return "" if caught.value.code in (0, None) else str(caught.value.code)

    return call


def test_the_default_is_offline_and_byte_identical_every_time(run: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "knowledge.jsonl"
    assert run() == ""
    first = out.read_bytes()
    assert {line.source for line in read_descriptions(out)} == {"curated", "mask"}
    assert {(line.model, line.prompt_hash, line.date) for line in read_descriptions(out)} == {("", "", "")}
    out.unlink()
    assert run() == ""
    assert out.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["knowledge.jsonl"]


def test_every_anomalous_image_with_a_mask_is_described(index: Path, run: Callable[..., str], tmp_path: Path) -> None:
    run("--set", 'sources=["mask"]')
    frame = read_index(index)
    anomalous = frame[frame["label"] == 1]
    expected = {}
    for row in anomalous.itertuples():
        image = load_image(str(row.image_path))
        mask = load_mask(str(row.mask_path), image.size)
        expected[row.image] = [describe(np.asarray(image), mask, str(row.class_name))]
    assert read_image_knowledge(tmp_path / "knowledge.jsonl") == expected
    texts = read_knowledge(tmp_path / "knowledge.jsonl", ["bolt", "nut"])
    assert {name: len(of_class) for name, of_class in texts.items()} == {"bolt": 4, "nut": 4}
    assert all("white anomaly" in text and ", lighter than the" in text for text in texts["nut"])


def test_images_without_a_mask_have_no_description(
    write_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    folder = write_folder(tmp_path / "images", count=2, masks=False)
    prepare(folder_spec("bare", {}), tmp_path / "index.csv", tmp_path, folder)
    frame = read_index(tmp_path / "index.csv")
    assert from_masks(frame) == []
    assert "4 anomalous images have no mask" in caplog.text
    found = collect("bare", frame, KnowledgeConfig(), tmp_path / "answers.jsonl")
    assert {line.source for line in found} == {"curated"}


def test_images_without_labels_are_not_counted_as_anomalous(
    write_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    folder = write_folder(tmp_path / "images", count=2, masks=False)
    prepare(folder_spec("bare", {}), tmp_path / "index.csv", tmp_path, folder)
    assert from_masks(read_index(tmp_path / "index.csv").assign(label=-1)) == []
    assert "anomalous images" not in caplog.text


def test_the_answers_and_the_output_cannot_be_one_file(run: Callable[..., str], tmp_path: Path) -> None:
    line = run("--answers", str(tmp_path / "." / "knowledge.jsonl"))
    assert "--answers: expected another file than --out" in line
    assert list(tmp_path.iterdir()) == []


def test_models_are_asked_by_the_same_command(
    run: Callable[..., str], server: ChatServer, index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.otherwise = lambda request: says("A crack at the top left.")
    endpoint = {"base_url": server.url, "model": "m", "key_variable": VARIABLE}
    settings = ["--set", 'sources=["curated", "llm", "vqa"]']
    settings += ["--set", f"llm={json.dumps(endpoint | {'descriptions': 2})}", "--set", f"vqa={json.dumps(endpoint)}"]
    assert run(*settings) == ""
    descriptions = read_descriptions(tmp_path / "knowledge.jsonl")
    assert {line.source for line in descriptions} == {"curated", "llm", "vqa"}
    assert len(server.requests) == 2 * 2 + 8
    images = set(read_index(index).query("label == 1")["image"])
    assert set(read_image_knowledge(tmp_path / "knowledge.jsonl")) == images
    first = (tmp_path / "knowledge.jsonl").read_bytes()
    (tmp_path / "knowledge.jsonl").unlink()  # like Snakemake when a job fails
    assert run(*settings) == ""
    assert (tmp_path / "knowledge.jsonl").read_bytes() == first
    assert len(server.requests) == 12
    output = capfd.readouterr()
    written = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert KEY not in output.out + output.err + written


def test_a_failure_keeps_the_answers_and_writes_no_output(
    run: Callable[..., str], server: ChatServer, tmp_path: Path
) -> None:
    server.script = [says("A crack.")] * 3 + [fails(403, f"{KEY} may not")]
    llm = {"base_url": server.url, "model": "m", "key_variable": VARIABLE, "concurrency": 1}
    line = run("--set", 'sources=["llm"]', "--set", f"llm={json.dumps(llm)}")
    assert line.startswith("error: ") and "403" in line and "<key> may not" in line and "\n" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["knowledge.answers.jsonl"]
    assert len(read_descriptions(tmp_path / "knowledge.answers.jsonl")) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('sources=["gossip"]', "'curated', 'mask', 'llm' or 'vqa'"),
        ("sources=[]", "at least 1 item"),
        ("llm={modle: x}", "did you mean 'model'?"),
    ],
)
def test_mistakes_give_one_line(run: Callable[..., str], tmp_path: Path, setting: str, message: str) -> None:
    line = run("--set", setting)
    assert line.startswith("error: --set: ") and message in line and "\n" not in line
    assert list(tmp_path.iterdir()) == []
