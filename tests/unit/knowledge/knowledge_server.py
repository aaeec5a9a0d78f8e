"""A chat server on this machine that misbehaves as configured."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-0123456789"
VARIABLE = "KANOCLIP_TEST_KEY"


@dataclass(frozen=True)
class Answer:
    """One HTTP response, after a delay in seconds."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def says(text: str | None, finish: str = "stop", delay: float = 0.0, **message: Any) -> Answer:
    """Return a chat completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return Answer(json.dumps(body).encode(), delay=delay)


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """Return an error in the format of OpenAI."""
    error = {"error": {"message": message, "type": "error", "code": code}}
    return Answer(json.dumps(error).encode(), status, headers)


class ChatServer(ThreadingHTTPServer):
    """Give the answers of `script` in turn, then those of `otherwise`; record the requests and their times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Answer] = []
        self.otherwise: Callable[[dict[str, Any]], Answer] = lambda request: says("A crack runs across it.")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Message] = []
        self.times: list[float] = []
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect, which the tests provoke."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(request)
            server.headers.append(self.headers)
            server.times.append(time.monotonic())
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
            scripted = server.script.pop(0) if server.script else None
        answer = scripted or server.otherwise(request)
        time.sleep(answer.delay)
        with server.lock:
            server.busy -= 1
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""
