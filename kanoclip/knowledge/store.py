"""knowledge.jsonl: descriptions of anomalies, one a line, each with where it came from."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kanoclip.files import write_text
from kanoclip.types import InputError


@dataclass(frozen=True)
class Description:
    """What an anomaly of a class looks like.

    Attributes:
        class_name: as in index.csv.
        source: who says so, e.g. "curated".
        text: one or two sentences, within CLIP's 77 tokens.
        image: the image it describes; empty if it speaks of the class.
        model: what wrote it; empty if people did.
        prompt_hash: of the question that the model answered.
    """

    class_name: str
    source: str
    text: str
    image: str = ""
    model: str = ""
    prompt_hash: str = ""


def write_knowledge(path: Path, descriptions: Sequence[Description]) -> None:
    """Write all lines, or nothing."""
    write_text(path, "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in descriptions))


def read_knowledge(path: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """The texts of each class.

    Raises:
        InputError: a line is not a description, or a class has none.
    """
    texts: dict[str, list[str]] = {name: [] for name in class_names}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            description = Description(**json.loads(line))
        except (TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}, line {number}: expected a description in JSON, found {line[:60]!r}") from error
        texts.setdefault(description.class_name, []).append(description.text)
    missing = [name for name in class_names if not texts[name]]
    if missing:
        raise InputError(f"{path}: no description of {', '.join(missing)}; run kanoclip knowledge for this dataset")
    return texts
