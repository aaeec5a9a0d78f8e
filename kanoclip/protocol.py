"""What a configuration asks for: every training and scoring job of a run under one protocol, checked beforehand."""

from dataclasses import asdict, dataclass
from typing import Any

from kanoclip import __version__
from kanoclip.backbones.clip import complete
from kanoclip.backbones.descriptions import supported
from kanoclip.backbones.streams import Streams
from kanoclip.config import BackboneConfig, Configuration, MethodConfig, Strict, parse
from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.methods import Method, method_class
from kanoclip.report.run import Run, RunRow, RunTarget
from kanoclip.types import NO_AUXILIARY, InputError, unknown_name


@dataclass(frozen=True)
class Row:
    """A row of the tables: a method with its options on a backbone.

    Attributes:
        name: of the row, in paths and tables.
        method: the registered method.
        recipe: "protocol" or "published".
        options: as written in the configuration, over those of the recipe.
        backbone: name of the backbone.
        control: whether it proves something instead of competing: a control, or any method on random weights.
    """

    name: str
    method: str
    recipe: str
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


def backbones(config: Configuration) -> dict[str, BackboneConfig]:
    """The configured backbones, and those of the published recipes in use, by name."""
    implied = {}
    for name, entry in _entries(config).items():
        method = entry.method or name
        if entry.recipe == "published" and entry.backbone is None:
            implied[_published(method)] = BackboneConfig(**method_class(method).published_backbone)
    return {**config.backbones, **implied}


def rows(config: Configuration) -> list[Row]:
    """The rows of the main tables, in order, with their options checked.

    Raises:
        InputError: an unknown method, option or backbone.
    """
    return [_row(config, name) for name in config.methods]


def ablation_rows(config: Configuration, table: str) -> list[Row]:
    """The rows of an ablation table, likewise."""
    return [_row(config, name) for name in config.ablations[table]]


def all_rows(config: Configuration) -> list[Row]:
    """Every row of every table, each once."""
    return [_row(config, name) for name in _entries(config)]


def _entries(config: Configuration) -> dict[str, MethodConfig]:
    """Every row as written.

    Raises:
        InputError: two tables describe a row of one name differently.
    """
    entries = dict(config.methods)
    for table, described in config.ablations.items():
        for name, entry in described.items():
            if name in entries and entry not in (entries[name], MethodConfig()):
                raise InputError(
                    f"ablations.{table}.{name}: another row has this name; leave this one empty or rename it"
                )
            entries.setdefault(name, entry)
    return entries


def _row(config: Configuration, name: str) -> Row:
    entry = _entries(config)[name]
    method = entry.method or name
    kind = method_class(method)
    published = entry.recipe == "published"
    backbone = entry.backbone or (_published(method) if published else config.backbone)
    known = backbones(config)
    if backbone not in known:
        raise unknown_name("backbone", backbone, known)
    control = kind.control or known[backbone].weights.startswith("random:")
    options = {**kind.published, **entry.options} if published else entry.options
    row = Row(name, method, entry.recipe, options, backbone, control)
    checked_options(row)
    return row


def _published(method: str) -> str:
    return f"{method}-published"


def jobs(config: Configuration) -> list[Job]:
    """Every scoring job of the main tables: rows x targets x seeds.

    Raises:
        InputError: something unknown is named, or a target equals its auxiliary dataset (zero-shot guard).
    """
    check_datasets(config)
    return _jobs(config, rows(config))


def ablation_jobs(config: Configuration, table: str) -> list[Job]:
    """Every scoring job of an ablation table, likewise."""
    return _jobs(config, ablation_rows(config, table))


def all_jobs(config: Configuration) -> list[Job]:
    """Every scoring job of every table, each once."""
    check_datasets(config)
    return _jobs(config, all_rows(config))


def _jobs(config: Configuration, of: list[Row]) -> list[Job]:
    """Controls, and methods that seeds do not change, run once."""
    return [
        Job(row, auxiliary_of(config, row, target), target, seed)
        for row in of
        for target in config.targets
        for seed in (config.seeds if row.kind.stochastic and not row.kind.control else config.seeds[:1])
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


def trainings(of: list[Job]) -> list[Job]:
    """One job for each training that some scoring jobs need."""
    distinct = {(job.row.name, job.auxiliary, job.seed): job for job in of if job.row.kind.trainable}
    return list(distinct.values())


def checked_options(row: Row) -> Strict:
    """A row's options with all defaults."""
    return parse(row.kind.Options, row.options, f"methods.{row.name}")


def encodings(config: Configuration) -> dict[tuple[str, str], Streams]:
    """What is cached, by backbone and dataset: the union of what rows read of it, so that the tower runs once.

    Raises:
        InputError: a backbone's model is unknown, or its taps do not fit it.
    """
    wanted: dict[tuple[str, str], Streams] = {}
    for job in all_jobs(config):
        streams = _streams(config, job.row)
        for dataset in (job.target, job.auxiliary) if job.row.kind.trainable else (job.target,):
            place = job.row.backbone, dataset
            wanted[place] = wanted.get(place, Streams()).union(streams)
    return wanted


def _streams(config: Configuration, row: Row) -> Streams:
    settings = backbones(config)[row.backbone]
    layers = number_of_blocks(settings)
    taps = complete(settings, layers).taps
    assert taps is not None
    return row.kind.streams(checked_options(row), taps, layers)


def number_of_blocks(backbone: BackboneConfig) -> int:
    """Return the number of blocks of an image tower, without building it.

    Raises:
        InputError: the model is unknown or cannot be used.
    """
    layers = supported(backbone.model).layers
    assert layers is not None
    return layers


def describe(config: Configuration) -> Run:
    """What the tables must state about a run."""
    described = all_rows(config)
    known = backbones(config)
    return Run(
        version=__version__,
        rows=tuple(RunRow(**asdict(row)) for row in described),
        main=tuple(config.methods),
        ablations={table: tuple(names) for table, names in config.ablations.items()},
        targets=tuple(_described_target(config, name) for name in config.targets),
        backbones={row.backbone: known[row.backbone] for row in described},
        resolution=config.evaluation.resolution,
    )


def _described_target(config: Configuration, name: str) -> RunTarget:
    limit = config.datasets[name].limit if name in config.datasets else None
    if name not in dataset_names():
        return RunTarget(name=name, title=name, domain=None, limit=limit)
    spec = load_spec(name)
    return RunTarget(name=name, title=spec.title, domain=spec.domain, limit=limit)
