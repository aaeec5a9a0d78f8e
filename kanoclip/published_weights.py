"""Descriptions of the weights that methods' authors published, one YAML file per method in methods/published/."""

import hashlib
from pathlib import Path

import yaml
from pydantic import Field, model_validator

from kanoclip.config import Strict, parse
from kanoclip.files import sha256
from kanoclip.types import InputError

RELEASES = Path(__file__).parent / "methods" / "published"


class ReleasedFile(Strict):
    """A file of weights; unknown facts are absent."""

    name: str = Field(pattern=r"^[^/\\]+$", description="on the disk")
    urls: tuple[str, ...] = Field(min_length=1, description="in the order to try them")
    auxiliary: str | None = Field(None, description="dataset it was trained on; none: by hand only")
    also_trained_on: tuple[str, ...] = Field((), description="further datasets that its training saw")
    bytes: int | None = Field(None, gt=0, description="its size")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    git_blob: str | None = Field(None, pattern="^[0-9a-f]{40}$", description="id of its content in a git repository")

    def verify(self, path: Path) -> None:
        """Verify that a file on disk is this one.

        Raises:
            InputError: it is another file, or incomplete.
        """
        size = path.stat().st_size
        if self.bytes is not None and size != self.bytes:
            raise InputError(f"{path}: expected {self.bytes} bytes, found {size}; fetch it again")
        for kind, expected, digest in (("SHA-256", self.sha256, sha256), ("git blob", self.git_blob, git_blob)):
            if expected is not None and (found := digest(path)) != expected:
                raise InputError(f"{path}: expected {kind} {expected}, found {found}; fetch it again")


class Release(Strict):
    """The published weights of a method."""

    homepage: str
    licence: str = Field(description="of the weights, as their authors state it")
    layout: str = Field(description="what the files hold, in words")
    not_offered: str = Field("", description="why no configuration can take them; empty: some can be taken")
    files: tuple[ReleasedFile, ...]

    @model_validator(mode="after")
    def _says_why_nothing_is_offered(self) -> "Release":
        if bool(self.not_offered) == bool(self.offered):
            raise ValueError("not_offered must say why exactly where no file names its auxiliary dataset")
        return self

    @property
    def offered(self) -> list[str]:
        """The auxiliary datasets for which a configuration can use published weights."""
        return list(dict.fromkeys(file.auxiliary for file in self.files if file.auxiliary))

    def trained_on(self, auxiliary: str) -> list[ReleasedFile]:
        """Return the files of a training; a method may need several."""
        return [file for file in self.files if file.auxiliary == auxiliary]


def release_names() -> list[str]:
    """Return the methods with a description of published weights."""
    return sorted(path.stem for path in RELEASES.glob("*.yaml"))


def load_release(method: str) -> Release:
    """Return the description of a method's published weights.

    Raises:
        InputError: there is none, or the YAML file is invalid.
    """
    path = RELEASES / f"{method}.yaml"
    if not path.is_file():
        raise InputError(f"method {method}: no published weights are known; known: {', '.join(release_names())}")
    return parse(Release, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def files_trained_on(method: str, auxiliary: str) -> list[ReleasedFile]:
    """Return the published files of a method trained on a dataset.

    Raises:
        InputError: there are none.
    """
    release = load_release(method)
    files = release.trained_on(auxiliary)
    if not files:
        reason = release.not_offered or (
            f"they were trained on {' or '.join(release.offered)}, not on {auxiliary}; set auxiliary or auxiliary_for"
        )
        raise InputError(f"method {method}: its published weights cannot be taken: {reason}")
    return files


def git_blob(path: Path) -> str:
    """Return the id that git gives to the content of a file, in hexadecimal."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
