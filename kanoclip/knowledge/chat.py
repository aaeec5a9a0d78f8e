"""Ask an OpenAI-compatible endpoint one question. The only module that knows the API key."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kanoclip.config import EndpointConfig
from kanoclip.types import InputError

LARGEST = 2**20  # bytes per response: a completion of 150 tokens has a few thousand
LONGEST_TEXT = 20_000  # characters kept of an answer; CLIP reads about 300
PATIENCE = 10  # times the time-out, after which a slowly arriving body is given up
FILTERED = {"content_filter", "content_policy_violation"}  # codes of a refusal by the server, not by the model


@dataclass(frozen=True)
class Reply:
    """The reply of a model.

    Attributes:
        text: the answer as written; empty if there is none.
        cut_off: whether the server stopped the answer at its length limit.
        refused: whether the server or the model refused to answer.
        readable: whether the response was a chat completion.
    """

    text: str = ""
    cut_off: bool = False
    refused: bool = False
    readable: bool = True


class Chat:
    """A connection shared by many threads, with a rate limit and retries.

    The openai client retries errors that may pass (no connection, time-outs, 408, 409, 429, 5xx) with exponential
    back-off and jitter, or after the server's Retry-After of at most two minutes; it never retries 400, 401, 403 or
    404.
    """

    def __init__(self, config: EndpointConfig) -> None:
        """Create the client.

        Raises:
            InputError: the openai client is not installed, or the key is missing or not a key.
        """
        try:
            import openai
        except ImportError:
            raise InputError(
                "the knowledge sources llm and vqa need the openai client: pip install 'kanoclip[llm]'"
            ) from None
        self.config = config
        self.tokens_in = self.tokens_out = 0  # so far, as the server counts
        self._counting = threading.Lock()
        self._openai = openai
        self._key = _api_key(config.key_variable)
        pace = Pace(config.requests_per_minute)
        http = openai.DefaultHttpxClient(
            event_hooks={"request": [pace.wait, _ask_for_plain_bytes], "response": [self._cap]}
        )
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=self._key or "none",  # a server without keys ignores it, the client insists on one
            timeout=config.timeout,
            max_retries=config.retries,
            http_client=http,  # retries are paced too
        )

    def ask(self, messages: list[Any]) -> Reply:
        """Send messages and wait for the reply.

        Raises:
            InputError: the endpoint refuses the request, or does not answer after the configured number of retries.
        """
        openai, config = self._openai, self.config
        try:
            completion = self._client.chat.completions.create(
                model=config.model, messages=messages, extra_body=config.request
            )
        except (ValueError, TypeError, AttributeError, RecursionError):  # of JSON, or of the client that reads it
            return Reply(readable=False)
        except openai.APIError as error:
            if error.code in FILTERED:
                return Reply(refused=True)
            said = " ".join(self._without_key(str(error)).split())[:300]
            problem = f"{config.base_url}, model {config.model}: {said}"
        else:
            self._count(completion)
            return self._reply(completion)
        # outside the except clause: the client's exception holds the request, and with it the key
        raise InputError(f"{problem}; the answers so far are kept; run again to continue")

    def _reply(self, completion: Any) -> Reply:
        """Read a reply defensively: servers vary, so every field may be absent or of any type."""
        choices = getattr(completion, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        message, reason = getattr(choice, "message", None), getattr(choice, "finish_reason", None)
        content = getattr(message, "content", "")
        if message is None or isinstance(message, str | list | dict) or not isinstance(content, str | None):
            return Reply(readable=False)
        # half of a surrogate pair is not a character and cannot be written to a file
        text = self._without_key((content or "")[:LONGEST_TEXT].encode("utf-8", "ignore").decode("utf-8"))
        return Reply(
            text=text,
            cut_off=reason == "length" or len(content or "") > LONGEST_TEXT,
            refused=reason == "content_filter" or bool(getattr(message, "refusal", None)),
        )

    def _cap(self, response: Any) -> None:
        """Limit the size and duration of a response body; a truncated body is not JSON."""
        largest = LARGEST
        if response.headers.get("content-encoding", "identity") != "identity":
            # no compression was asked for: a compressed body may unpack to a thousand times its size
            largest = 0
            del response.headers["content-encoding"]
        response.stream = _capped(response, largest, time.monotonic() + PATIENCE * self.config.timeout)

    def _count(self, completion: Any) -> None:
        usage = getattr(completion, "usage", None)
        asked, answered = (getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens"))
        with self._counting:
            self.tokens_in += asked if isinstance(asked, int) else 0
            self.tokens_out += answered if isinstance(answered, int) else 0

    def _without_key(self, text: str) -> str:
        """Remove the key, which some servers repeat when they reject it."""
        return text.replace(self._key, "<key>") if self._key else text


def _ask_for_plain_bytes(request: Any) -> None:
    request.headers["Accept-Encoding"] = "identity"


def _capped(response: Any, largest: int, until: float) -> Any:
    """Return a body that ends after a number of bytes, or at a time of the monotonic clock in seconds."""
    stream = response.stream
    # httpx or the library that the openai client uses instead, which accepts only its own streams
    library: Any = sys.modules[type(response).__module__.partition(".")[0]]

    class Capped(library.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            left = largest
            for part in stream:
                left -= len(part)
                if left < 0 or time.monotonic() > until:
                    return
                yield part

        def close(self) -> None:
            stream.close()

    return Capped()


class Pace:
    """A rate limit that lets callers through at even intervals."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, *_: object) -> None:
        """Sleep until it is the caller's turn."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._interval
        time.sleep(max(0.0, turn - time.monotonic()))


def _api_key(variable: str | None) -> str:
    """Return the key in an environment variable; "" if no variable is named."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(
            f"environment variable {variable}: expected an API key, found nothing; export it, or set key_variable to "
            "null for a server without keys"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(f"environment variable {variable}: expected an API key, found characters that no key has")
    return key
