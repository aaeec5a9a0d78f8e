"""The check of wording finds bad wording at its line and accepts plain English."""

import runpy
from pathlib import Path

import pytest

WORDS = runpy.run_path(str(Path(__file__).parents[2] / "tools/words.py"))
findings = WORDS["findings"]


@pytest.mark.parametrize(
    "sentence",
    [
        "Images a forward.",
        "at most 50 images a class and label",
        "One job a row.".lower(),
        "read a image",
        "an plain file",
        "Likewise for masks.",
        "what nothing is worth",
        "whoever asks",
        "so many images",
        "batch_size: images at once",
        "A killed run goes on where it stopped.",
        "path: the file to appear",
        "the wished rate",
        "drawn anew in each step",
        "equal but for rounding",
        "a file that is no image",
        "where nothing is to be seen",
        "cannot be told apart",
        "a changed file is told",
        "the weights of then",
        "methods without training",
        "trained from nothing",
        "the two agree in every byte",
    ],
)
def test_finds_bad_wording(sentence: str) -> None:
    for name, text in [("a.md", sentence), ("a.py", f"# {sentence}\n"), ("a.py", f'x = "{sentence}"\n')]:
        assert len(findings(name, text)) == 1, (name, text)


@pytest.mark.parametrize(
    "sentence",
    [
        "Return one image per class.",
        "An hour, a unit vector, a one-sided test, a European norm, an MLP, an F1 score.",
        "The mask gives a class; it takes a file and reads a row.",
        "a and b are vectors; a is longer",
        "as many images as there are",
        "If there is no file, the image is no larger than a tile, or it is no longer needed, say so.",
        "The user is told to run it again.",
        "seed: seed of the batch",
    ],
)
def test_accepts_plain_english(sentence: str) -> None:
    assert findings("a.md", sentence) == []
    assert findings("a.py", f'"""{sentence}"""\n') == []


def test_reads_over_a_line_break_and_names_the_first_line() -> None:
    assert [line for line, _, _ in findings("a.md", "\nseconds\na row")] == [2]
    assert [line for line, _, _ in findings("a.py", "x = (\n    'seconds '\n    'a row'\n)\n")] == [2]
    assert [line for line, _, _ in findings("a.py", "# seconds\n# a row\n")] == [1]


def test_ignores_code() -> None:
    assert findings("a.py", "seconds = a\nrow = a\n") == []
    assert findings("tests/a.py", "x = 'a image'\n") == []
    assert findings("a.md", "`images a forward`\n```\nimages a forward\n```\n") == []
    assert findings("a.md", "<!-- words: off -->\nimages a forward\n<!-- words: on -->\n") == []


def test_finds_an_argument_without_a_noun() -> None:
    text = 'def f(seed):\n    """Draw.\n\n    Args:\n        seed: of the batch.\n    """\n'
    assert [line for line, _, _ in findings("a.py", text)] == [5]


def test_reads_result_pages_but_not_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("docs/results", "results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.md").write_text("Text.")
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in WORDS["files"](Path())] == ["docs/results/a.md"]


def test_finds_an_empty_docstring() -> None:
    assert len(findings("a.py", 'def f():\n    """As above."""\n')) == 1
