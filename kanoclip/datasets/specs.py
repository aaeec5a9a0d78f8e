"""Dataset specs: one YAML file per dataset in specs/, found by scanning, and one table of class names for prompts."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from kanoclip.config import Strict
from kanoclip.naming import check_class_name
from kanoclip.types import InputError, unknown_name

SPECS = Path(__file__).parent / "specs"
CLASS_NAMES = Path(__file__).parent / "class_names.yaml"


class ArchiveSource(Strict):
    """An archive that anybody can download: mirrors in the order to try them."""

    kind: Literal["archive"]
    urls: list[str] = Field(min_length=1)
    file: str  # its name on disk
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class ManualSource(Strict):
    """An archive that needs a browser or an account."""

    kind: Literal["manual"]
    where: str  # the page to get it from
    what: str  # what to get there
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class PackageSource(Strict):
    """Images inside an installed Python package."""

    kind: Literal["package"]
    module: str
    folder: str  # inside the package


class SyntheticSource(Strict):
    """Images drawn by `kanoclip.datasets.synthetic`: the spec's classes are its kinds."""

    kind: Literal["synthetic"]
    seed: int
    size: int = Field(gt=0)  # pixels, width and height
    normal: int = Field(gt=0)  # images per class
    anomalous: int = Field(gt=0)  # images per class


class FolderSource(Strict):
    """Images of the user, at a path given when preparing."""

    kind: Literal["folder"]


Source = Annotated[
    ArchiveSource | ManualSource | PackageSource | SyntheticSource | FolderSource, Field(discriminator="kind")
]


class ImageCounts(Strict):
    """Images of a test split."""

    normal: int
    anomalous: int


class Origin(Strict):
    """Where images come from and whose they are."""

    folder_key: ClassVar[str] = "path"  # of the configuration: names a folder that is used instead of the source

    name: str
    title: str  # its name in tables
    source: Source
    download_size: str = ""  # in words, as its authors state it
    licence: str
    citation: str
    homepage: str = ""
    notes: str = ""


class DatasetSpec(Origin):
    """What is known about a dataset before its images are on disk."""

    domain: Literal["industrial", "medical"]
    layout: str  # name of the reader of its folders, in `layouts.py`
    classes: list[str]  # folder names; empty: every folder found is a class
    class_names: dict[str, str]  # folder name to the name used in prompts
    masks: bool | None  # None: as found
    images: ImageCounts | None = None  # of the test split; None: unknown before it is prepared, or drawn

    def class_name(self, folder: str) -> str:
        """Return the name of a class in prompts: from the table, or the folder name with spaces for underscores."""
        return self.class_names.get(folder, folder.replace("_", " "))

    def count(self, limit: int | None = None) -> int | None:
        """Return the number of test images, of which `limit` per class and label are kept; None if unknown."""
        if isinstance(self.source, SyntheticSource):
            normal, anomalous = (n * len(self.classes) for n in (self.source.normal, self.source.anomalous))
        elif self.images is not None:
            normal, anomalous = self.images.normal, self.images.anomalous
        else:
            return None
        most = None if limit is None or not self.classes else limit * len(self.classes)
        return normal + anomalous if most is None else min(normal, most) + min(anomalous, most)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "DatasetSpec":
        names = [self.class_name(folder) for folder in {*self.classes, *self.class_names}]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two classes share the name '{doubled[0]}'")
        for name in names:
            check_class_name(name)
        return self


def dataset_names() -> list[str]:
    """Return the names of all registered datasets, sorted."""
    return sorted(path.stem for path in SPECS.glob("*.yaml"))


def load_spec(name: str) -> DatasetSpec:
    """Return the spec of a registered dataset.

    >>> load_spec("mvtec_ad").class_name("metal_nut")
    'metal nut'

    Raises:
        InputError: there is no such dataset, or its YAML file is wrong.
    """
    if name not in dataset_names():
        raise unknown_name("dataset", name, dataset_names())
    path = SPECS / f"{name}.yaml"
    table = yaml.safe_load(CLASS_NAMES.read_text(encoding="utf-8"))["datasets"]
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return _spec(str(path), name=name, class_names=table.get(name, {}), **fields)


def folder_spec(name: str, class_names: dict[str, str]) -> DatasetSpec:
    """Return the spec of a user's own folder of images.

    Args:
        name: the dataset's name in configuration, paths and tables.
        class_names: folder name to the name used in prompts, for folders whose own name is unsuitable.
    """
    return _spec(
        f"dataset {name}",
        name=name,
        title=name,
        domain="industrial",
        source={"kind": "folder"},
        layout="folder",
        classes=[],
        class_names=class_names,
        masks=None,
        licence="the owner's",
        citation="none: images of the user",
    )


def _spec(origin: str, **fields: Any) -> DatasetSpec:
    """Return a validated spec, or raise an InputError about its first problem."""
    try:
        return DatasetSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{origin}: {key + ': ' if key else ''}{first['msg']}") from error
