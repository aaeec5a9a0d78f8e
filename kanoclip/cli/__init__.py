"""The command line: one command a stage. Each reads files, calls one function of the package and writes files.

Heavy modules are imported inside the commands, so that --help and the light stages start at once.
"""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kanoclip.cli import data, downloads, export, figures, methods, names, plan, predict, published, render
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
    help="Zero-shot anomaly detection with CLIP. One command a stage; `snakemake` runs them all in order.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_STAGES: tuple[Callable[..., None], ...] = (
    predict.predict,
    predict.calibrate,
    plan.plan,
    downloads.downloads,
    downloads.fetch_backbone,
    data.download,
    data.prepare,
    data.knowledge,
    data.encode,
    methods.train,
    methods.cross_validate,
    published.fetch_weights,
    methods.score,
    methods.score_pass,
    export.export,
    methods.evaluate,
    methods.compare,
    render.protocol,
    render.tables,
    render.runtime,
    figures.figure,
    render.page,
    methods.pretrain,
)
for _stage in _STAGES:
    app.command()(_stage)
app.command("import")(published.import_)
app.command("list")(names.list_names)
app.command()(names.schema)
app.command()(names.overview)
app.command()(names.version)


@app.callback()
def _options(
    log: Annotated[
        Path | None,
        typer.Option(help="Write the log and all output to this file; the terminal shows progress and errors as well."),
    ] = None,
) -> None:
    if log is None:
        return
    try:
        setup_logging(log)
    except OSError as error:
        raise InputError(f"{log}: cannot write the log: {error.strerror}") from error


def main() -> None:
    """Run the command line; an error of the user ends with one line and exit code 1."""
    setup_logging()
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")
    except RecursionError:
        sys.exit("error: a configuration, an option or a file is nested too deeply; expected a few levels")
    except UnicodeError as error:
        sys.exit(f"error: text that is not UTF-8 ({error}); write it in UTF-8")
    except OSError as error:
        if error.errno is None:  # of a library, not of the system
            raise
        sys.exit(f"error: {_of_the_system(error)}")


def _of_the_system(error: OSError) -> str:
    """Return one line about what the system refused, and what to do."""
    file = printable(str(error.filename)) if error.filename else "a file"
    remedy = REMEDIES.get(error.errno or 0, "check the path and run again")
    return f"{file}: cannot be read or written: {error.strerror}; {remedy}"
