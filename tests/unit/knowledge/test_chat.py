"""Test the client with a misbehaving server: what it retries, when it gives up, and that it never reveals the key."""

import gzip
import logging
import sys
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from threading import Thread

import pytest
from knowledge_server import KEY, VARIABLE, Answer, ChatServer, fails, says

from kanoclip.config import LlmConfig
from kanoclip.knowledge.chat import Chat, Reply
from kanoclip.types import InputError

MESSAGES = [{"role": "user", "content": "What is wrong?"}]


def test_a_question_is_sent_and_its_answer_returned(server: ChatServer, endpoint: Callable[..., LlmConfig]) -> None:
    chat = Chat(endpoint(request={"max_tokens": 9, "num_ctx": 512}))
    assert chat.ask(MESSAGES) == Reply("A crack runs across it.")
    assert server.requests == [{"model": "m", "messages": MESSAGES, "max_tokens": 9, "num_ctx": 512}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    chat.ask(MESSAGES)
    assert (chat.tokens_in, chat.tokens_out) == (80, 20)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (says(""), Reply("")),
        (says(None), Reply("")),
        (says("A dark", finish="length"), Reply("A dark", cut_off=True)),
        (says(None, refusal="No."), Reply("", refused=True)),
        (says("", finish="content_filter"), Reply("", refused=True)),
        (fails(400, "filtered", code="content_filter"), Reply(refused=True)),
        (Answer(b'{"choices": [{"mess'), Reply(readable=False)),
        (Answer(b'{"choices": []}'), Reply(readable=False)),
        (Answer(b'{"choices": [{"finish_reason": "stop"}]}'), Reply(readable=False)),
        (Answer(b"[1]"), Reply(readable=False)),
        (Answer(b"<html>", headers={"Content-Type": "text/html"}), Reply(readable=False)),
        (says(f"Your key is {KEY}."), Reply("Your key is <key>.")),
        (Answer(b'{"choices": ["x"]}'), Reply(readable=False)),
        (Answer(b'{"choices": [{"message": "x"}]}'), Reply(readable=False)),
        (Answer(b'{"choices": [{"message": {"content": ["x"]}}]}'), Reply(readable=False)),
        (Answer(b'{"choices": [{"message": {"content": "a \\ud800 b"}}]}'), Reply("a  b")),
        (says("x" * 44_000_000), Reply(readable=False)),
        (says("x" * 30_000), Reply("x" * 20_000, cut_off=True)),
        (Answer(gzip.compress(says("x").body), headers={"Content-Encoding": "gzip"}), Reply(readable=False)),
    ],
)
def test_unusual_replies_are_handled(
    server: ChatServer, endpoint: Callable[..., LlmConfig], answer: Answer, reply: Reply
) -> None:
    server.script = [answer]
    assert Chat(endpoint()).ask(MESSAGES) == reply
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "trouble", [fails(429), fails(500), fails(502), fails(503), says("Too late.", delay=1.5)], ids=lambda a: a.status
)
def test_temporary_failures_are_retried(
    server: ChatServer, endpoint: Callable[..., LlmConfig], trouble: Answer
) -> None:
    server.script = [trouble]
    assert Chat(endpoint(timeout=1.0)).ask(MESSAGES).text == "A crack runs across it."
    assert len(server.requests) == 2


def test_a_closed_port_is_retried_and_then_reported(endpoint: Callable[..., LlmConfig]) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/v1, model m: Connection error"):
        Chat(endpoint(base_url="http://127.0.0.1:9/v1", retries=1)).ask(MESSAGES)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_permanent_failures_are_not_retried(
    server: ChatServer, endpoint: Callable[..., LlmConfig], status: int
) -> None:
    server.script = [fails(status, "bad\nrequest")]
    with pytest.raises(InputError, match=f"Error code: {status}.*run again to continue") as caught:
        Chat(endpoint()).ask(MESSAGES)
    assert len(server.requests) == 1
    assert "\n" not in str(caught.value)


def test_retries_end_after_the_configured_number(server: ChatServer, endpoint: Callable[..., LlmConfig]) -> None:
    server.script = [fails(503, "busy")] * 9
    with pytest.raises(InputError, match="busy"):
        Chat(endpoint(retries=1)).ask(MESSAGES)
    assert len(server.requests) == 2


def test_retry_after_is_obeyed_and_otherwise_the_pause_grows(
    server: ChatServer, endpoint: Callable[..., LlmConfig]
) -> None:
    server.script = [fails(429, retry_after="1"), fails(500), fails(500)]
    assert Chat(endpoint(retries=3)).ask(MESSAGES).text
    first, second, third = [later - earlier for earlier, later in pairwise(server.times)]
    assert first >= 1
    # half a second, doubled each time; jitter shortens it by up to a quarter
    assert second >= 0.75 * 0.5 and third >= 0.75 * 1


def test_the_rate_limit_is_kept(server: ChatServer, endpoint: Callable[..., LlmConfig]) -> None:
    server.script = [fails(500)]
    chat = Chat(endpoint(requests_per_minute=300))
    start = time.monotonic()
    threads = [Thread(target=chat.ask, args=[MESSAGES]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.times) == 5  # retries count too
    assert all(at - start >= number * 60 / 300 for number, at in enumerate(sorted(server.times)))


def test_the_key_never_appears_in_output(
    server: ChatServer,
    endpoint: Callable[..., LlmConfig],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Servers repeat a key that they reject, and clients include requests in their exceptions."""
    caplog.set_level(logging.DEBUG)
    seen = []
    for trouble in (fails(401, f"Incorrect API key provided: {KEY}"), fails(500, f"{KEY}"), says(KEY, delay=0.6)):
        server.script = [trouble]
        try:
            Chat(endpoint(retries=0, timeout=0.3)).ask(MESSAGES)
        except InputError as error:
            seen += ["".join(traceback.format_exception(error)), repr(error.__context__), repr(error.__cause__)]
    assert len(seen) == 3 * 3
    output = capfd.readouterr()
    assert KEY not in "".join(seen) + caplog.text + output.out + output.err


def test_no_key_is_sent_if_none_is_configured(
    server: ChatServer, endpoint: Callable[..., LlmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # for another endpoint, so it must not be sent to this one
    assert Chat(endpoint(key_variable=None)).ask(MESSAGES).text
    assert KEY not in str(server.headers[0])


@pytest.mark.parametrize(
    ("value", "found"), [(None, "nothing"), ("  ", "nothing"), ("two words", "no key has"), ("schlüssel", "no key has")]
)
def test_a_missing_or_invalid_key_is_reported_in_one_line(
    endpoint: Callable[..., LlmConfig], monkeypatch: pytest.MonkeyPatch, value: str | None, found: str
) -> None:
    config = endpoint()
    monkeypatch.delenv(VARIABLE) if value is None else monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InputError, match=f"environment variable {VARIABLE}: .*{found}") as caught:
        Chat(config)
    assert value is None or not value.strip() or value not in str(caught.value)


def test_a_missing_client_library_is_reported_in_one_line(
    endpoint: Callable[..., LlmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'kanoclip\[llm\]'"):
        Chat(endpoint())
