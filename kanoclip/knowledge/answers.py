"""The file of all model answers; each is paid for once and written to disk as soon as it arrives."""

import os
import threading
from dataclasses import replace
from pathlib import Path

from kanoclip.knowledge.jsonl import ChangedError, Description, from_line, read_descriptions, to_line
from kanoclip.knowledge.questions import Key, Question
from kanoclip.types import logger


class Answers:
    """Answers by question, kept in a file with lines as in knowledge.jsonl; lines are only ever appended."""

    def __init__(self, path: Path) -> None:
        """Read the file; a last line that a kill left half-written is dropped unless it is whole."""
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[Key, Description] = {}
        if path.is_file():
            _heal(path)
            self._known = {_key(line): line for line in read_descriptions(path, "delete the line to ask again")}

    def __contains__(self, question: Question) -> bool:
        return question.key in self._known or question.key_by_name in self._known

    def __getitem__(self, question: Question) -> Description:
        """Return the answer, with the name that the image has now."""
        answer = self._known.get(question.key) or self._known[question.key_by_name]
        return replace(answer, image=question.image)

    def add(self, answer: Description) -> None:
        """Append an answer and sync it, so that it survives a kill and a power cut."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(to_line(answer))
            file.flush()
            os.fsync(file.fileno())
            self._known[_key(answer)] = answer


def _key(answer: Description) -> Key:
    """Return the key of the question that was answered; lines of older versions have no digest of the image."""
    image = answer.image_digest or answer.image
    return (answer.source, answer.model, answer.prompt_hash, answer.class_name, image, answer.number)


def _heal(path: Path) -> None:
    """Complete or remove a last line that was interrupted by a kill."""
    content = path.read_bytes()
    last = content[content.rfind(b"\n") + 1 :]
    if not last:
        return
    try:
        from_line(last.decode())
    except ChangedError:
        return  # whole, and changed by hand: the reader says so
    except (TypeError, ValueError, RecursionError):
        os.truncate(path, len(content) - len(last))
        logger.warning("%s: removed a half-written last line", path)
    else:
        with path.open("ab") as file:
            file.write(b"\n")
