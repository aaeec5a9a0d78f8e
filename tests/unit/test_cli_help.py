"""The help of every command begins with its purpose and ends with an example that parses."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from kanoclip import __version__, cli
from kanoclip.cli.examples import EXAMPLES

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, [*arguments], prog_name="kanoclip")
    assert result.exit_code == 0, result.output
    return result.output


def test_version_is_printed() -> None:
    assert shown("--version") == f"{__version__}\n"


def test_exactly_the_commands_have_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_begins_with_the_purpose_and_ends_with_an_example(name: str) -> None:
    text = shown(name, "--help")
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"Usage: kanoclip {name} ")
    assert re.match(r"  [A-Z][a-z-]+,? [^\n]+", rest)
    example = text.rpartition("\n\n")[2]
    assert example.startswith(f"  Example:\n    kanoclip {name} ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_help(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.name == "help" or re.fullmatch(r"[A-Z].*\.", parameter.help or "", re.DOTALL), parameter.name


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_of_all_commands_parse(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse and check each command line, with every file present, without running it."""
    monkeypatch.chdir(tmp_path)
    command, *arguments = shlex.split(EXAMPLES[name].replace("\\\n", ""))
    assert command == name
    for argument in arguments:
        if re.fullmatch(r"[\w/.-]+\.\w+", argument):
            Path(argument).parent.mkdir(parents=True, exist_ok=True)
            Path(argument).touch()
    COMMANDS[name].make_context(name, arguments)
