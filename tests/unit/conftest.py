import json
from pathlib import Path

import pytest


@pytest.fixture
def knowledge(tmp_path: Path) -> Path:
    """Return a knowledge.jsonl with one description of each class of the fixture `index`."""
    path = tmp_path / "knowledge.jsonl"
    lines = [{"class_name": name, "source": "curated", "text": f"a cracked {name}"} for name in ("nut", "bolt")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
