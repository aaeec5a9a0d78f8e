"""The command line. Each command reads files, calls one function of the package and writes files.

`@-` stands for the lines of standard input, so that a command can be given any number of arguments.

Heavy modules are imported inside the commands, so that --help and the light commands start at once.
"""

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kanoclip import __version__
from kanoclip.cli import data, downloads, export, figures, methods, names, plan, predict, published, render
from kanoclip.cli.examples import epilog
from kanoclip.cli.standard_input import expand
from kanoclip.naming import printable
from kanoclip.types import InputError, setup_logging

FULL, FORBIDDEN = "free space and run again", "make it writable, or choose another folder"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.EEXIST: "remove it, or choose another name",
    errno.ENOENT: "run the stage that makes it",
}

app = typer.Typer(
    help="Zero-shot anomaly detection with CLIP: predict your own images, or run the stages of a benchmark one by one.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS: Mapping[str, Callable[..., Any]] = {
    "predict": predict.predict,
    "calibrate": predict.calibrate,
    "plan": plan.plan,
    "downloads": downloads.downloads,
    "fetch-backbone": downloads.fetch_backbone,
    "download": data.download,
    "prepare": data.prepare,
    "photographs": data.photographs,
    "knowledge": data.knowledge,
    "encode": data.encode,
    "train": methods.train,
    "cross-validate": methods.cross_validate,
    "fetch-weights": published.fetch_weights,
    "import": published.import_,
    "score": methods.score,
    "score-pass": methods.score_pass,
    "evaluate": methods.evaluate,
    "compare": methods.compare,
    "export": export.export,
    "protocol": render.protocol,
    "tables": render.tables,
    "runtime": render.runtime,
    "figure": figures.figure,
    "page": render.page,
    "pretrain": methods.pretrain,
    "list": names.list_names,
    "schema": names.schema,
    "overview": names.overview,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, epilog=epilog(_name))(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    log: Annotated[
        Path | None,
        typer.Option(help="Write the log and all output to this file; the terminal still shows progress and errors."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if log is None:
        return
    try:
        setup_logging(log)
    except OSError as error:
        raise InputError(f"{log}: cannot write the log: {error.strerror}") from error


def main() -> None:
    """Run the command line; invalid input ends it with one line and exit code 1."""
    setup_logging()
    try:
        app(expand(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
    except SyntaxError as error:  # in a method or a metric that the user adds
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}, line {error.lineno}: expected Python, found {error.msg}; correct the file")
    except RecursionError:
        sys.exit("error: a configuration, an option or a file is nested too deeply; expected a few levels")
    except UnicodeError as error:
        sys.exit(f"error: text that is not UTF-8 ({error}); write it in UTF-8")
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the system
            raise
        sys.exit(f"error: {_of_the_system(error)}")


def _of_the_system(error: OSError) -> str:
    """Return one line that states what the system refused and what to do."""
    file = printable(str(error.filename)) if error.filename else "a file"
    remedy = REMEDIES.get(error.errno or 0, "check the path and run again")
    return f"{file}: cannot be read or written: {error.strerror}; {remedy}"
