"""Read and write knowledge.jsonl: descriptions of the classes of a dataset, one text per line, each with its source."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from kanoclip.files import read_text, text_digest, write_text
from kanoclip.naming import printable
from kanoclip.types import InputError

State = Literal["abnormal", "normal", "background"]
DIGEST = "digest"  # the last key of a line


class ChangedError(Exception):
    """A line does not fit its digest."""


@dataclass(frozen=True)
class Description:
    """A description of a class in words.

    Attributes:
        class_name: as in index.csv.
        source: where the text comes from: "curated", "mask", "llm" or "vqa".
        text: one or a few sentences, within CLIP's 77 tokens; empty if a model gave no usable answer.
        state: what is described.
        image: the image that is described, as in index.csv; empty if the text is about the class.
        image_digest: digest of the content of the image that a model saw, as in index.csv; absent from other lines.
        model: what wrote it; empty if no model did.
        prompt_hash: hash of the question without class and image; empty if no model was asked.
        number: which of several answers to the same question, from 0.
        date: date of the answer, YYYY-MM-DD in UTC. Empty for curated and mask texts, which follow from versioned files
            and must be byte-identical on every day.
        note: what happened to the answer on its way, such as that it was shortened.
    """

    class_name: str
    source: str
    text: str
    state: State = "abnormal"
    image: str = ""
    model: str = ""
    prompt_hash: str = ""
    number: int = 0
    date: str = ""
    note: str = ""
    image_digest: str = ""


def to_line(description: Description) -> str:
    """Return a description as a line of JSON, with the digest of its values."""
    return json.dumps(_values(description) | {DIGEST: _digest(description)}, ensure_ascii=False) + "\n"


def from_line(line: str) -> Description:
    """Return the description in a line of JSON; a line without a digest is taken as it is.

    Raises:
        TypeError: a key is unknown or missing, or a value is of another type.
        ValueError: the line is not JSON, a text cannot be written, or a state is unknown.
        ChangedError: the values do not fit their digest.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise TypeError("not an object")
    digest = values.pop(DIGEST, None)
    description = _checked(values)
    if digest is not None and digest != _digest(description):
        raise ChangedError
    return description


def _digest(description: Description) -> str:
    return text_digest(json.dumps(_values(description)))


def _values(description: Description) -> dict[str, Any]:
    """Return what a line holds; without a digest of an image it is as it was before there were such digests."""
    values = asdict(description)
    return values if description.image_digest else {key: values[key] for key in values if key != "image_digest"}


def write_knowledge(path: Path, descriptions: Sequence[Description]) -> None:
    """Write all lines, or nothing."""
    write_text(path, "".join(map(to_line, descriptions)))


def read_descriptions(path: Path, remedy: str = "run kanoclip knowledge again") -> list[Description]:
    """Return every line of a knowledge.jsonl, or of a file of answers.

    Args:
        path: the file.
        remedy: what to do about a wrong line.

    Raises:
        InputError: a line is not a description, or was changed and still has its digest.
    """
    descriptions = []
    # not splitlines(): a text may hold one of the rarer line separators, which JSON leaves as they are
    for number, line in enumerate(read_text(path, "descriptions").removesuffix("\n").split("\n"), start=1):
        try:
            descriptions += [from_line(line)] if line else []
        except ChangedError as error:
            raise InputError(
                f"{path}, line {number}: expected the text as it was written, found another; "
                f'{remedy}, or delete "{DIGEST}" from the line to keep a change'
            ) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: expected a description in JSON, found {printable(line, 60)!r}; {remedy}"
            ) from error
    return descriptions


def _checked(values: Any) -> Description:
    """Return a description from JSON.

    Raises:
        TypeError: a key is unknown or missing, or a value is of another type.
        ValueError: a text cannot be written, or a state is unknown.
    """
    description = Description(**values)
    for name, value in asdict(description).items():
        if type(value) is not (int if name == "number" else str):
            raise TypeError(f"{name} is {type(value).__name__}")
        str(value).encode("utf-8")  # half of a surrogate pair cannot be written
    if description.state not in get_args(State):
        raise ValueError(f"state {description.state}")
    return description


def read_knowledge(path: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts about the anomalies of each class, of all sources, in the order of the file.

    Raises:
        InputError: a line is not a description, or a class has none of its anomalies.
    """
    texts: dict[str, list[str]] = {name: [] for name in class_names}
    for description in _abnormal(path):
        texts.setdefault(description.class_name, []).append(description.text)
    missing = [name for name in class_names if not texts[name]]
    if missing:
        raise InputError(f"{path}: no description of {', '.join(missing)}; run kanoclip knowledge for this dataset")
    return texts


def read_image_knowledge(path: Path) -> dict[str, list[str]]:
    """Return the texts about the anomalies of single images, by the image's name in index.csv; other images are absent.

    Raises:
        InputError: a line is not a description.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for description in _abnormal(path):
        if description.image:
            texts[description.image].append(description.text)
    return dict(texts)


def _abnormal(path: Path) -> list[Description]:
    return [line for line in read_descriptions(path) if line.state == "abnormal"]
