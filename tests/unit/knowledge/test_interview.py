"""Every question is paid for once, despite odd answers, failures, kills and restarts."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from knowledge_server import KEY, Answer, ChatServer, fails, says

from kanoclip.config import LlmConfig, VqaConfig
from kanoclip.datasets.index import read_index
from kanoclip.knowledge.interview import interview
from kanoclip.knowledge.jsonl import Description, read_descriptions
from kanoclip.knowledge.questions import STRICTER, Question, image_questions, text_questions
from kanoclip.types import InputError

CLASSES = ["nut", "bolt", "screw"]
Endpoint = Callable[..., LlmConfig]


def asked_about(request: dict[str, Any]) -> str:
    """Return the class that a request names."""
    return str(request["messages"][-1]["content"]).removesuffix(" looks like?").split()[-1]


def hold(config: LlmConfig, path: Path, classes: list[str] = CLASSES) -> list[Description]:
    return interview(text_questions(classes, config), config, path)


def stored(path: Path) -> int:
    """Return the number of complete lines in the file of answers."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "of_models" / "answers.jsonl"


def test_answers_are_in_the_order_of_the_questions(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    earlier = {"screw": 0, "bolt": 1, "nut": 2}  # answers that must be on the disk before this one is given

    def otherwise(request: dict[str, Any]) -> Answer:
        while stored(path) < earlier[asked_about(request)]:
            time.sleep(0.01)
        return says(f"A broken {asked_about(request)}.")

    server.otherwise = otherwise
    descriptions = hold(endpoint(descriptions=1, concurrency=3), path)
    assert [line.text for line in descriptions] == ["A broken nut.", "A broken bolt.", "A broken screw."]
    assert [line.class_name for line in read_descriptions(path)] == ["screw", "bolt", "nut"]  # in the order of arrival
    line = descriptions[0]
    assert (line.source, line.model, line.state, line.note) == ("llm", "m", "abnormal", "")
    assert len(line.prompt_hash) == 16
    assert line.date == datetime.now(UTC).date().isoformat()


def test_the_limit_of_parallel_questions_is_kept(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    server.otherwise = lambda request: says("A crack.", delay=0.05)
    hold(endpoint(concurrency=2), path)
    assert server.busiest == 2
    assert len(server.requests) == 3 * 5


@pytest.mark.parametrize(
    ("first", "note"),
    [
        (says(""), "empty; asked again"),
        (says("I'm sorry, I can't assist."), "refused; asked again"),
        (says(None, refusal="No."), "refused; asked again"),
        (fails(400, code="content_filter"), "refused; asked again"),
        (says("A long beginning with", finish="length"), "cut off by the server; asked again"),
        (says("crack " * 80), "over 77 tokens; asked again"),
        (Answer(b"{"), "unreadable; asked again"),
    ],
)
def test_a_question_with_an_unusable_answer_is_repeated_more_strictly(
    server: ChatServer, endpoint: Endpoint, path: Path, first: Answer, note: str
) -> None:
    server.script = [first, says("A cracked nut.")]
    (line,) = hold(endpoint(descriptions=1), path, ["nut"])
    assert (line.text, line.note) == ("A cracked nut.", note)
    assert STRICTER not in str(server.requests[0]) and STRICTER in str(server.requests[1])


@pytest.mark.parametrize(
    ("answer", "text", "note"),
    [
        (says("A crack. A dark li", finish="length"), "A crack.", "cut off by the server, whole sentences kept"),
        (says("A crack. " + "stain " * 80), "A crack.", "over 77 tokens, whole sentences kept"),
        (says("- **A crack.**"), "A crack.", ""),
    ],
)
def test_complete_sentences_of_a_truncated_answer_are_kept(
    server: ChatServer, endpoint: Endpoint, path: Path, answer: Answer, text: str, note: str
) -> None:
    server.script = [answer]
    (line,) = hold(endpoint(descriptions=1), path, ["nut"])
    assert (line.text, line.note) == (text, note)
    assert len(server.requests) == 1


def test_an_answer_that_stays_unusable_is_recorded_and_not_paid_for_again(
    server: ChatServer, endpoint: Endpoint, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [says(""), says("I cannot help.")]
    config = endpoint(descriptions=1, concurrency=1)
    for _ in range(2):
        caplog.clear()
        assert [line.class_name for line in hold(config, path)] == ["bolt", "screw"]
        assert "1 of 3 answers have no usable text" in caplog.text
    assert len(server.requests) == 4
    assert [line.note for line in read_descriptions(path) if not line.text] == ["empty; asked again; refused"]


def test_a_server_that_is_not_a_chat_server_is_reported(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    server.otherwise = lambda request: Answer(b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(InputError, match="expected a chat completion, found something else; check base_url"):
        hold(endpoint(), path)
    assert not path.exists()


def test_after_a_failure_only_the_remaining_questions_are_asked(
    server: ChatServer, endpoint: Endpoint, path: Path
) -> None:
    server.script = [says("One."), says("Two."), fails(401, f"bad key {KEY}")]
    config = endpoint(descriptions=2, concurrency=1)
    with pytest.raises(InputError, match="401"):
        hold(config, path)
    assert len(server.requests) == 3
    assert KEY not in path.read_text()
    assert [line.text for line in hold(config, path)] == ["One.", "Two.", *["A crack runs across it."] * 4]
    assert len(server.requests) == 3 + 4
    before = path.read_bytes()
    hold(config, path)
    assert len(server.requests) == 7
    assert path.read_bytes() == before


def test_answers_in_progress_when_another_fails_are_kept(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    failed = threading.Event()

    def otherwise(request: dict[str, Any]) -> Answer:
        if asked_about(request) == "nut" and failed.wait(timeout=4):
            return says("Slow.", delay=0.2)
        failed.set()
        return fails(403)

    server.otherwise = otherwise
    with pytest.raises(InputError, match="403"):
        hold(endpoint(descriptions=1, concurrency=2), path)
    assert [line.text for line in read_descriptions(path)] == ["Slow."]


def test_an_answer_is_on_disk_before_the_next_question(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    lines = []

    def otherwise(request: dict[str, Any]) -> Answer:
        lines.append(stored(path))
        return says("A crack.")

    server.otherwise = otherwise
    hold(endpoint(descriptions=2, concurrency=1), path)
    assert lines == list(range(6))


@pytest.mark.parametrize("lost", [1, 2, 30, "all but a byte"])
def test_a_partial_last_line_is_removed(
    server: ChatServer, endpoint: Endpoint, path: Path, caplog: pytest.LogCaptureFixture, lost: int | str
) -> None:
    config = endpoint(descriptions=1, concurrency=1)
    whole = hold(config, path)
    *_, last = path.read_bytes().splitlines(keepends=True)
    kept = path.stat().st_size - (lost if isinstance(lost, int) else len(last) - 1)
    os.truncate(path, kept)
    assert hold(config, path) == whole
    assert len(server.requests) == 3 + (lost != 1)  # if only its line feed is missing, the line is complete
    assert ("removed a half-written last line" in caplog.text) == (lost != 1)
    assert len(read_descriptions(path)) == 3


def test_a_kill_loses_no_answer_and_none_is_paid_for_twice(server: ChatServer, endpoint: Endpoint, path: Path) -> None:
    killed = threading.Event()

    def otherwise(request: dict[str, Any]) -> Answer:
        if len(server.requests) > 8:
            killed.wait(timeout=60)
        return says(f"A broken {asked_about(request)}.")

    server.otherwise = otherwise
    config = endpoint(descriptions=10, concurrency=2, timeout=60.0)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(config, path))
    process.start()
    while len(server.requests) < 8 + config.concurrency:
        time.sleep(0.01)
    process.kill()
    process.join()
    killed.set()
    assert stored(path) == 8  # a thread stores each answer before its next question
    assert len(hold(config, path)) == 30
    assert len(server.requests) == 8 + config.concurrency + 22


def test_the_cost_is_logged_before_and_the_progress_during_the_questions(
    server: ChatServer, endpoint: Endpoint, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kanoclip")
    shown_before: list[str] = []

    def otherwise(request: dict[str, Any]) -> Answer:
        shown_before.append(caplog.messages[0])
        return says("A crack.")

    server.otherwise = otherwise
    config = endpoint(descriptions=5, concurrency=1, price=(1000.0, 2000.0), instruction="")
    hold(config, path, ["nut", "bolt"])
    characters = [len(f"Describe what an abnormal image of {name} looks like?") for name in ("nut", "bolt")]
    tokens_in, tokens_out = sum(5 * (count // 4) for count in characters), 10 * 77
    assert set(shown_before) == {
        f"llm: 10 questions to m at {server.url}, 0 of 10 answered before; about {tokens_in} tokens in, "
        f"{tokens_out} out, price {(tokens_in + 2 * tokens_out) / 1000:.2f}"
    }
    progress = caplog.messages[1:]
    assert len(progress) == 10
    # the server counts 40 and 10 tokens per answer
    assert progress[4] == "5 of 10 answered, 200 tokens in, 50 out, price 0.30"
    assert KEY not in caplog.text


def about_images(index: Path, config: LlmConfig) -> list[Question]:
    return image_questions(read_index(index), VqaConfig(**config.model_dump(exclude={"descriptions"})))


def test_an_image_is_known_by_its_content_and_not_by_its_name(
    server: ChatServer, endpoint: Endpoint, path: Path, index: Path
) -> None:
    questions = about_images(index, endpoint())
    moved = [replace(question, image=f"elsewhere/{question.image}") for question in questions]
    changed = [
        replace(question, image_digest="0" * 32 if not n else question.image_digest)
        for n, question in enumerate(questions)
    ]
    interview(questions, questions[0].config, path)
    assert len(server.requests) == 8
    assert [line.image for line in interview(moved, moved[0].config, path)] == [question.image for question in moved]
    assert len(server.requests) == 8
    interview(changed, changed[0].config, path)
    assert len(server.requests) == 9


def test_an_answer_of_an_older_version_is_known_by_the_name_of_its_image(
    server: ChatServer, endpoint: Endpoint, path: Path, index: Path
) -> None:
    questions = about_images(index, endpoint())
    interview(questions, questions[0].config, path)
    old = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(len(line.pop("image_digest")) == 32 and line.pop("digest") for line in old)
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert len(interview(questions, questions[0].config, path)) == 8
    assert len(server.requests) == 8


def test_two_files_with_the_same_image_are_asked_about_once(
    server: ChatServer, endpoint: Endpoint, path: Path, index: Path
) -> None:
    (first, *_) = about_images(index, endpoint())
    twice = [first, replace(first, image="copy.png")]
    assert [line.image for line in interview(twice, first.config, path)] == [first.image, "copy.png"]
    assert len(server.requests) == 1


def test_an_edited_answer_is_refused_with_the_way_to_ask_again(
    server: ChatServer, endpoint: Endpoint, path: Path
) -> None:
    hold(endpoint(descriptions=1), path)
    path.write_text(path.read_text().replace("crack", "dent", 1))
    with pytest.raises(InputError, match='line 1: .*; delete the line to ask again, or delete "digest"'):
        hold(endpoint(descriptions=1), path)


def test_another_model_is_asked_again_and_the_old_answers_are_kept(
    server: ChatServer, endpoint: Endpoint, path: Path
) -> None:
    hold(endpoint(descriptions=1), path)
    server.otherwise = lambda request: says("Another view.")
    assert {line.text for line in hold(endpoint(descriptions=1, model="other"), path)} == {"Another view."}
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["m"] * 3 + ["other"] * 3
