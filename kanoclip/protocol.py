"""What a configuration asks for: every training and scoring job of a run under one protocol, checked beforehand."""

from dataclasses import dataclass
from typing import Any

import open_clip

from kanoclip.backbones.clip import complete
from kanoclip.backbones.streams import Streams
from kanoclip.backbones.weights import register_embedded
from kanoclip.config import BackboneConfig, Configuration, Strict, parse
from kanoclip.datasets.specs import dataset_names
from kanoclip.methods import Method, method_class
from kanoclip.types import InputError, unknown_name

NO_AUXILIARY = "none"  # in paths and tables, for methods that are not trained


@dataclass(frozen=True)
class Row:
    """A row of the tables: a method with its options on a backbone.

    Attributes:
        name: of the row, in paths and tables.
        method: the registered method.
        options: as written in the configuration.
        backbone: name of the backbone.
        control: whether it proves something instead of competing: a control, or any method on random weights.
    """

    name: str
    method: str
    options: dict[str, Any]
    backbone: str
    control: bool

    @property
    def kind(self) -> type[Method]:
        """The method's class."""
        return method_class(self.method)


@dataclass(frozen=True)
class Job:
    """One row on one target dataset with one seed."""

    row: Row
    auxiliary: str
    target: str
    seed: int


def rows(config: Configuration) -> list[Row]:
    """The rows of the tables, in order, with their options checked.

    Raises:
        InputError: an unknown method, option or backbone.
    """
    result = []
    for name, entry in config.methods.items():
        method, backbone = entry.method or name, entry.backbone or config.backbone
        if backbone not in config.backbones:
            raise unknown_name("backbone", backbone, config.backbones)
        control = method_class(method).control or config.backbones[backbone].weights.startswith("random:")
        row = Row(name, method, entry.options, backbone, control)
        checked_options(row)
        result.append(row)
    return result


def jobs(config: Configuration) -> list[Job]:
    """Every scoring job of the run: rows x targets x seeds. Controls and methods that seeds do not change run once.

    Raises:
        InputError: something unknown is named, or a target equals its auxiliary dataset (zero-shot guard).
    """
    check_datasets(config)
    return [
        Job(row, auxiliary_of(config, row, target), target, seed)
        for row in rows(config)
        for target in config.targets
        for seed in (config.seeds if row.kind.stochastic and not row.control else config.seeds[:1])
    ]


def auxiliary_of(config: Configuration, row: Row, target: str) -> str:
    """The dataset a row is trained on before it scores a target.

    Raises:
        InputError: it is the target itself and `allow_seen` is false.
    """
    if not row.kind.trainable:
        return NO_AUXILIARY
    auxiliary = config.auxiliary_for.get(target, config.auxiliary)
    if auxiliary == target and not config.allow_seen:
        raise InputError(
            f"target '{target}' is also the auxiliary dataset of '{row.name}', so it would not be zero-shot; name "
            f"another dataset in auxiliary_for.{target}, or set allow_seen: true to have the cell marked"
        )
    return auxiliary


def check_datasets(config: Configuration) -> None:
    """Refuse names that are neither shipped nor a configured folder.

    Raises:
        InputError: such a name, or a dataset of one's own without a path.
    """
    shipped = set(dataset_names())
    for name, entry in config.datasets.items():
        if name not in shipped and entry.path is None:
            if unknown_name("dataset", name, shipped).args[0].endswith("?"):
                raise unknown_name("dataset", name, shipped)
            raise InputError(f"datasets.{name}: a dataset of your own needs a path")
        if name in shipped and entry.class_names:
            raise InputError(f"datasets.{name}: class_names are only for a dataset of your own; rename the dataset")
    for name in [*config.targets, config.auxiliary, *config.auxiliary_for.values()]:
        if name not in shipped | set(config.datasets):
            raise unknown_name("dataset", name, shipped | set(config.datasets))


def trainings(config: Configuration) -> list[Job]:
    """One job for each training that the run needs."""
    distinct = {(job.row.name, job.auxiliary, job.seed): job for job in jobs(config) if job.row.kind.trainable}
    return list(distinct.values())


def used_datasets(config: Configuration) -> list[str]:
    """Every dataset that is encoded for some job."""
    names = [job.target for job in jobs(config)] + [job.auxiliary for job in trainings(config)]
    return list(dict.fromkeys(names))


def checked_options(row: Row) -> Strict:
    """A row's options with all defaults."""
    return parse(row.kind.Options, row.options, f"methods.{row.name}")


def streams_of(config: Configuration, backbone: str) -> Streams:
    """The union of what the configured methods read from a backbone, so that its tower runs once.

    Raises:
        InputError: the backbone's model is unknown, or its taps do not fit it.
    """
    settings = config.backbones[backbone]
    layers = number_of_blocks(settings)
    taps = complete(settings, layers).taps
    assert taps is not None
    union = Streams()
    for row in rows(config):
        if row.backbone == backbone:
            union = union.union(row.kind.streams(checked_options(row), taps, layers))
    return union


def number_of_blocks(backbone: BackboneConfig) -> int:
    """Blocks of an image tower, from open_clip's model configurations, without building it."""
    register_embedded()
    known = open_clip.get_model_config(backbone.model)
    if known is None:
        raise unknown_name("backbone", backbone.model, open_clip.list_models())
    layers = known["vision_cfg"].get("layers")
    if not isinstance(layers, int):
        raise InputError(f"backbone {backbone.model}: expected a ViT, found another kind of image tower; choose a ViT")
    return layers
