"""A chat server and configurations that use it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from knowledge_server import KEY, VARIABLE, ChatServer

from kanoclip.config import LlmConfig


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv(VARIABLE, KEY)
    with ChatServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def endpoint(server: ChatServer) -> Callable[..., LlmConfig]:
    """Return a function that makes configurations for the server."""

    def make(**changes: Any) -> LlmConfig:
        values = {"base_url": server.url, "model": "m", "key_variable": VARIABLE, "timeout": 5.0, "retries": 2}
        return LlmConfig(**values | changes)

    return make
