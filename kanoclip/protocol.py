"""Expand a configuration into the training and scoring jobs of a run, and check it beforehand."""

from typing import Any

from kanoclip import __version__
from kanoclip.backbones.shape import tower_shape
from kanoclip.backbones.taps import CLIP, Tap
from kanoclip.checkpoints import read_record
from kanoclip.config import BackboneConfig, Configuration, MethodConfig, Strict, parse
from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.methods import method_class
from kanoclip.published_weights import files_trained_on
from kanoclip.rows import NO_AUXILIARY, Checkpoint, Row, checkpoint_file
from kanoclip.run import Job, Run, RunTarget
from kanoclip.types import InputError, unknown_name


def backbones(config: Configuration) -> dict[str, BackboneConfig]:
    """Return the configured backbones, and those of the published recipes in use, by name."""
    implied = {}
    for name, entry in _entries(config).items():
        method = entry.method or name
        if entry.recipe == "published" and entry.backbone is None:
            implied[_published(method)] = BackboneConfig(**method_class(method).published_backbone)
    return {**config.backbones, **implied}


def rows(config: Configuration) -> list[Row]:
    """Return the rows of the main tables, in order, with their options checked; under `only` those it names.

    Raises:
        InputError: a method, option or backbone is unknown, or a name in `only` is not a row.
    """
    for name in config.only:
        if name not in config.methods:
            raise unknown_name("row in only", name, config.methods)
    return [_row(config, name) for name in config.methods if not config.only or name in config.only]


def ablation_rows(config: Configuration, table: str) -> list[Row]:
    """Return the rows of an ablation table, in order, with their options checked."""
    return [_row(config, name) for name in config.ablations[table]]


def all_rows(config: Configuration) -> list[Row]:
    """Return every row of every table, each once; under `only`, of the main tables just the rows that it names."""
    kept = {row.name for row in rows(config)}.union(*config.ablations.values())
    return [_row(config, name) for name in _entries(config) if name in kept]


def _entries(config: Configuration) -> dict[str, MethodConfig]:
    """Return every row as written.

    Raises:
        InputError: two tables define different rows with the same name.
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
    options = {**kind.published, **entry.options} if published else entry.options
    checkpoint = None
    if entry.checkpoint is not None:
        checkpoint, options = _checkpoint(entry, name, method)
    changed = kind.published_on.items() if published else ()
    if entry.weights == "published" and not kind.trainable:
        raise InputError(f"methods.{name}: weights: published is for trained methods; {method} learns nothing")
    row = Row(
        name=name,
        method=method,
        recipe=entry.recipe,
        weights=entry.weights,
        options=options,
        training_options={auxiliary: {**kind.published, **changes, **entry.options} for auxiliary, changes in changed},
        backbone=backbone,
        control=kind.control or known[backbone].weights.startswith("random:"),
        trainable=kind.trainable,
        checkpoint=checkpoint,
    )
    checked = checked_options(row)
    taps = kind.reads(checked, tower_shape(known[backbone]))
    for tower in sorted({tap.tower for tap in taps} - {CLIP, *known[backbone].towers}):
        raise InputError(
            f"methods.{name}: it reads a second tower called {tower}, which backbone {backbone} does not have; add "
            f"backbones.{backbone}.towers.{tower} (docs/backbones.md), or name a backbone that has it"
        )
    epochs = kind.Options.model_fields["epochs"].default if "epochs" in kind.Options.model_fields else 0
    marks = tuple(sorted(kind.marks(checked)))
    return row.model_copy(update={"reads": tuple(map(str, sorted(taps))), "default_epochs": epochs, "marks": marks})


def _checkpoint(entry: MethodConfig, name: str, method: str) -> tuple[Checkpoint, dict[str, Any]]:
    """Return the description of a row's checkpoint, and its options."""
    assert entry.checkpoint is not None
    if entry.options:
        raise InputError(f"methods.{name}: a checkpoint has its options; leave out {', '.join(entry.options)}")
    path = checkpoint_file(entry.checkpoint)
    record = read_record(path)
    if record["method"] != method:
        raise InputError(f"methods.{name}: {path}: expected a checkpoint of {method}, found one of {record['method']}")
    return Checkpoint(file=entry.checkpoint, auxiliary=record["auxiliary"], seed=record["seed"]), record["options"]


def _published(method: str) -> str:
    return f"{method}-published"


def jobs(config: Configuration) -> list[Job]:
    """Return every scoring job of the main tables: rows x targets x seeds.

    Raises:
        InputError: a name is unknown, or a target equals its auxiliary dataset (zero-shot guard).
    """
    check_datasets(config)
    return _jobs(config, rows(config))


def all_jobs(config: Configuration) -> list[Job]:
    """Return every scoring job of every table, each once."""
    check_datasets(config)
    return _jobs(config, all_rows(config))


def _jobs(config: Configuration, of: list[Row]) -> list[Job]:
    """Return the jobs of some rows; controls, published weights and deterministic methods run once."""
    return [
        Job(row=row.name, backbone=row.backbone, auxiliary=auxiliary_of(config, row, target), target=target, seed=seed)
        for row in of
        for target in config.targets
        for seed in _seeds(config, row)
    ]


def _seeds(config: Configuration, row: Row) -> tuple[int, ...]:
    if row.checkpoint is not None:
        return (row.checkpoint.seed,)
    kind = method_class(row.method)
    varies = kind.stochastic and not kind.control and row.weights == "trained"
    return config.seeds if varies else config.seeds[:1]


def auxiliary_of(config: Configuration, row: Row, target: str) -> str:
    """Return the dataset that a row is trained on, here or in its checkpoint, to score a target.

    Raises:
        InputError: it is the target itself and `allow_seen` is false; or no weights are published for it, or their
            authors trained them on the target as well.
    """
    if not row.trainable:
        return NO_AUXILIARY
    auxiliary = config.auxiliary_for.get(target, config.auxiliary)
    if row.checkpoint is not None:
        auxiliary = row.checkpoint.auxiliary
    if auxiliary == target and not config.allow_seen:
        raise InputError(
            f"target '{target}' is also the auxiliary dataset of '{row.name}', so it would not be zero-shot; name "
            f"another dataset in auxiliary_for.{target}, or set allow_seen: true to have the cell marked"
        )
    if row.weights == "published":
        _check_published(row, auxiliary, target)
    return auxiliary


def _check_published(row: Row, auxiliary: str, target: str) -> None:
    for file in files_trained_on(row.method, auxiliary):
        if target in file.also_trained_on:
            raise InputError(
                f"target '{target}': the published weights of {row.method} were trained on it as well as on "
                f"{auxiliary}, so it would not be zero-shot; leave out the target or the row '{row.name}'"
            )


def check_datasets(config: Configuration) -> None:
    """Refuse names that are neither shipped nor a configured folder.

    Raises:
        InputError: there is such a name, or a dataset of your own has no path.
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


def checked_options(row: Row) -> Strict:
    """Return the options of a row, with all defaults."""
    return parse(method_class(row.method).Options, row.options, f"methods.{row.name}")


def encodings(config: Configuration) -> dict[tuple[str, str], frozenset[Tap]]:
    """Return the taps to cache by backbone and dataset: all that rows read, so that the tower runs once.

    Raises:
        InputError: a backbone's model is unknown, or its taps do not fit it.
    """
    wanted: dict[tuple[str, str], frozenset[Tap]] = {}

    def add(backbone: str, dataset: str, taps: frozenset[Tap]) -> None:
        if taps:
            wanted[backbone, dataset] = wanted.get((backbone, dataset), frozenset()) | taps

    named = {row.name: row for row in all_rows(config)}
    for job in all_jobs(config):
        row, kind = named[job.row], method_class(named[job.row].method)
        shape = tower_shape(backbones(config)[row.backbone])
        if row.trained_here and "auxiliary" in config.cache:
            options = parse(kind.Options, row.options_on(job.auxiliary), f"methods.{row.name}")
            add(row.backbone, job.auxiliary, kind.trains_on(options, shape))
        if "targets" in config.cache:
            add(row.backbone, job.target, kind.reads(checked_options(row), shape))
    return wanted


def describe(config: Configuration) -> Run:
    """Expand a configuration into a run, and check it.

    Raises:
        InputError: the configuration is wrong.
    """
    described = all_rows(config)
    known = backbones(config)
    taps: dict[str, dict[str, tuple[str, ...]]] = {}
    for (backbone, dataset), wanted in encodings(config).items():
        taps.setdefault(backbone, {})[dataset] = tuple(map(str, sorted(wanted)))
    return Run(
        version=__version__,
        rows=tuple(described),
        jobs=tuple(all_jobs(config)),
        taps=taps,
        cached_targets="targets" in config.cache,
        main=tuple(row.name for row in rows(config)),
        ablations={table: tuple(names) for table, names in config.ablations.items()},
        targets=tuple(_described_target(config, name) for name in config.targets),
        backbones={row.backbone: known[row.backbone] for row in described},
        resolution=config.evaluation.resolution,
        auxiliary_limits={
            name: limit
            for name in dict.fromkeys((config.auxiliary, *config.auxiliary_for.values()))
            if name in config.datasets and (limit := config.datasets[name].limit) is not None
        },
    )


def _described_target(config: Configuration, name: str) -> RunTarget:
    limit = config.datasets[name].limit if name in config.datasets else None
    if name not in dataset_names():
        return RunTarget(name=name, title=name, domain=None, limit=limit)
    spec = load_spec(name)
    return RunTarget(name=name, title=spec.title, domain=spec.domain, limit=limit)
