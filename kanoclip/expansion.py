"""Expand a configuration into a run and cache it, so that a workflow with nothing to do imports no torch.

`kanoclip.protocol` expands a configuration. It imports the methods, which takes seconds. `expand` calls it once and
caches the run in the user's cache folder, keyed by everything it depends on: the configuration, the checkpoints that it
names, the code of `kanoclip.protocol` and of every method, the specs of datasets and published weights, and the
versions of kanoclip and open_clip.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kanoclip import __version__
from kanoclip.code_digest import digest, installed
from kanoclip.config import Configuration
from kanoclip.files import remembered_sha256
from kanoclip.result_store import fingerprint
from kanoclip.rows import checkpoint_file
from kanoclip.run import Run
from kanoclip.user_cache import remembered


def expand(config: Configuration) -> Run:
    """Expand a configuration into a run, and check it; torch is imported only if the run is not cached.

    Raises:
        InputError: something in the configuration is unknown or contradictory; see `kanoclip.protocol`.
    """
    return Run.model_validate(remembered("runs", _key(config), lambda: _computed(config)))


def _key(config: Configuration) -> str:
    """Return the SHA-256 of everything an expansion depends on."""
    package = installed()
    folders = ("datasets/specs", "methods/published")
    plugins = [f"{folder}/{path.name}" for folder in folders for path in (package.root / folder).glob("*.yaml")]
    code = digest("kanoclip.expansion", *package.methods.values(), *plugins)
    rows = [entry for entries in (config.methods, *config.ablations.values()) for entry in entries.values()]
    files = [checkpoint_file(entry.checkpoint) for entry in rows if entry.checkpoint]
    checkpoints = [remembered_sha256(path) for path in files if path.is_file()]
    versions = [__version__, _open_clip()]
    return fingerprint(config=config.model_dump(mode="json"), code=code, checkpoints=checkpoints, versions=versions)


def _open_clip() -> str:
    try:
        return version("open_clip_torch")
    except PackageNotFoundError:
        return "unknown"


def _computed(config: Configuration) -> dict[str, Any]:
    """Return the run as values that JSON can express."""
    from kanoclip.protocol import describe

    return describe(config).model_dump(mode="json")
