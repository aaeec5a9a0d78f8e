"""The jobs of a configuration as plain data, remembered, so that a workflow with nothing to do imports no torch.

`kanoclip.protocol` says what a configuration asks for. It needs the classes of the methods, so importing it takes
seconds. `expand` calls it once and keeps the answer in the user's cache folder under all that the answer depends on:
the configuration, the code of `kanoclip.protocol` and of every method, the specs of the datasets, and the versions of
kanoclip and open_clip.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from kanoclip.caching import remembered
from kanoclip.code import digest, installed
from kanoclip.config import BackboneConfig, Configuration
from kanoclip.report.run import Run

if TYPE_CHECKING:
    from kanoclip import protocol


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Attributes:
        name: of the row, in paths and tables.
        method: the registered method.
        options: as written in the configuration, over those of the recipe; checked.
        backbone: name of the backbone.
        trainable: whether it is trained on an auxiliary dataset.
        stochastic: whether seeds change it.
        control: whether it proves something instead of competing, because of its method or its random weights.
        control_method: whether its method is a control.
    """

    name: str
    method: str
    options: dict[str, Any]
    backbone: str
    trainable: bool
    stochastic: bool
    control: bool
    control_method: bool


@dataclass(frozen=True)
class Job:
    """One row on one target dataset with one seed; `auxiliary` is `NO_AUXILIARY` where nothing is trained."""

    row: Row
    auxiliary: str
    target: str
    seed: int


@dataclass(frozen=True)
class Expansion:
    """What a configuration asks for.

    Attributes:
        run: what the tables state: rows of the main tables and of the ablations in order, targets, version.
        backbones: the configured ones, and those of the published recipes in use, by name.
        rows: every row of every table, by name.
        jobs: every scoring job of the main tables, in the order of the tables.
        ablation_jobs: those of every ablation table.
        all_jobs: those of all tables, each once.
        trainings: one job for each training that the jobs of the main tables need.
        encodings: what is cached of a dataset with a backbone, by (backbone, dataset): the kind of tokens to its keys.
    """

    run: Run
    backbones: dict[str, BackboneConfig]
    rows: dict[str, Row]
    jobs: tuple[Job, ...]
    ablation_jobs: dict[str, tuple[Job, ...]]
    all_jobs: tuple[Job, ...]
    trainings: tuple[Job, ...]
    encodings: dict[tuple[str, str], dict[str, tuple[int, ...]]]

    def rows_of(self, names: Iterable[str]) -> list[Row]:
        """Return some rows in order, e.g. of `run.main` or `run.ablations[table]`."""
        return [self.rows[name] for name in names]


def expand(config: Configuration) -> Expansion:
    """Return what a configuration asks for; torch is imported only if the answer is not remembered.

    Raises:
        InputError: something in the configuration is unknown or contradicts itself, as `kanoclip.protocol` says it.
    """
    return _restored(remembered("expansions", _key(config), lambda: _computed(config)))


def _key(config: Configuration) -> str:
    """The SHA-256 of everything an expansion depends on."""
    package = installed()
    methods = [name for name in package.modules if name.startswith("kanoclip.methods.")]
    specs = [f"datasets/specs/{path.name}" for path in (package.root / "datasets/specs").glob("*.yaml")]
    try:
        open_clip = version("open_clip_torch")
    except PackageNotFoundError:
        open_clip = "unknown"
    parts = [config.model_dump(mode="json"), digest("kanoclip.expansion", *methods, *specs), _release(), open_clip]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _release() -> str:
    from kanoclip import __version__

    return __version__


def _computed(config: Configuration) -> dict[str, Any]:
    """What `kanoclip.protocol` says, as values that JSON can express."""
    from kanoclip import protocol

    jobs = protocol.jobs(config)
    return {
        "run": protocol.describe(config).model_dump(mode="json"),
        "backbones": {name: entry.model_dump(mode="json") for name, entry in protocol.backbones(config).items()},
        "rows": [_plain_row(row) for row in protocol.all_rows(config)],
        "jobs": _plain_jobs(jobs),
        "ablation_jobs": {name: _plain_jobs(protocol.ablation_jobs(config, name)) for name in config.ablations},
        "all_jobs": _plain_jobs(protocol.all_jobs(config)),
        "trainings": _plain_jobs(protocol.trainings(jobs)),
        "encodings": [[*place, vars(streams)] for place, streams in protocol.encodings(config).items()],
    }


def _plain_row(row: "protocol.Row") -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in ("name", "method", "options", "backbone", "control")},
        **{name: getattr(row.kind, name) for name in ("trainable", "stochastic")},
        "control_method": row.kind.control,
    }


def _plain_jobs(jobs: "Iterable[protocol.Job]") -> list[list[Any]]:
    return [[job.row.name, job.auxiliary, job.target, job.seed] for job in jobs]


def _restored(plain: dict[str, Any]) -> Expansion:
    rows = {row["name"]: Row(**row) for row in plain["rows"]}

    def jobs(entries: list[list[Any]]) -> tuple[Job, ...]:
        return tuple(Job(rows[name], *rest) for name, *rest in entries)

    return Expansion(
        run=Run.model_validate(plain["run"]),
        backbones={name: BackboneConfig(**entry) for name, entry in plain["backbones"].items()},
        rows=rows,
        jobs=jobs(plain["jobs"]),
        ablation_jobs={table: jobs(entries) for table, entries in plain["ablation_jobs"].items()},
        all_jobs=jobs(plain["all_jobs"]),
        trainings=jobs(plain["trainings"]),
        encodings={
            (backbone, dataset): {kind: tuple(keys) for kind, keys in streams.items()}
            for backbone, dataset, streams in plain["encodings"]
        },
    )
