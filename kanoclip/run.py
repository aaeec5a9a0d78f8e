"""A run as plain data: rows, jobs, targets and backbones, made from the configuration by `kanoclip.protocol`.

The workflow and the tables read it from protocol.json, so that they need not import the methods.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kanoclip.config import BackboneConfig, Strict, parse
from kanoclip.rows import NO_AUXILIARY, PassRow, Row
from kanoclip.types import InputError

DOMAINS = ("industrial", "medical")  # each has a table, as the paper's Tables 1 and 2


class Job(Strict):
    """One row on one target dataset with one seed.

    Attributes:
        row: its name.
        backbone: the row's.
        auxiliary: the dataset that the row is trained on, or NO_AUXILIARY.
        target: the dataset to score.
        seed: seed of the training, or of a stochastic training-free method.
    """

    row: str
    backbone: str
    auxiliary: str
    target: str
    seed: int


@dataclass(frozen=True)
class Pass:
    """The jobs that share one pass of a backbone over a target.

    Attributes:
        backbone: its name.
        target: the dataset.
        ablations: whether its rows are only in ablation tables.
        jobs: rows and seeds, in the order of the tables.
    """

    backbone: str
    target: str
    ablations: bool
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Training:
    """A row trained on an auxiliary dataset, once per seed."""

    row: str
    backbone: str
    auxiliary: str
    seeds: tuple[int, ...]


class RunTarget(Strict):
    """A target dataset.

    Attributes:
        name: as in the metrics.
        title: its name as printed.
        domain: "industrial" or "medical"; None for a user's images.
        limit: largest number of images per class and label; None for all.
    """

    name: str
    title: str
    domain: str | None
    limit: int | None


class Run(Strict):
    """A benchmark run.

    Attributes:
        version: version of kanoclip.
        rows: rows of all tables.
        jobs: the scoring jobs of all tables, each once.
        taps: backbone to dataset to the taps that are cached.
        cached_targets: whether targets are scored from cached features.
        main: names of the rows of the main tables, in order.
        ablations: name of an ablation table to the names of its rows, in order.
        targets: the datasets, in order.
        backbones: by name.
        resolution: pixels per side at which maps are compared with masks; None for the image size.
        auxiliary_limits: auxiliary dataset to the largest number of images per class and label, where there is one.
    """

    version: str
    rows: tuple[Row, ...]
    jobs: tuple[Job, ...]
    taps: dict[str, dict[str, tuple[str, ...]]]
    cached_targets: bool
    main: tuple[str, ...]
    ablations: dict[str, tuple[str, ...]]
    targets: tuple[RunTarget, ...]
    backbones: dict[str, BackboneConfig]
    resolution: int | None
    auxiliary_limits: dict[str, int] = {}

    def row(self, name: str) -> Row:
        """Return the row with a name."""
        return next(row for row in self.rows if row.name == name)

    def jobs_of(self, names: Collection[str]) -> list[Job]:
        """Return the scoring jobs of some rows, in the order of the rows."""
        return [job for name in names for job in self.jobs if job.row == name]

    @property
    def passes(self) -> list[Pass]:
        """The passes over targets; rows that are only in ablation tables have separate passes."""
        grouped: dict[tuple[bool, str, str], list[Job]] = {}
        for job in self.jobs:
            grouped.setdefault((job.row not in self.main, job.backbone, job.target), []).append(job)
        return [Pass(backbone, target, extra, tuple(jobs)) for (extra, backbone, target), jobs in grouped.items()]

    def rows_of(self, one: Pass) -> list[PassRow]:
        """Return the rows of a pass with their seeds."""
        found = []
        for name in dict.fromkeys(job.row for job in one.jobs):
            row, jobs = self.row(name), [job for job in one.jobs if job.row == name]
            options = {} if row.trainable else row.options
            found.append(
                PassRow(
                    row=name,
                    method=row.method,
                    options=options,
                    auxiliary=jobs[0].auxiliary,
                    seeds=tuple(job.seed for job in jobs),
                    checkpoint=row.checkpoint.file if row.checkpoint else None,
                )
            )
        return found

    @property
    def trainings(self) -> list[Training]:
        """The trainings that this run does."""
        return self._trainings({row.name for row in self.rows if row.trained_here})

    @property
    def imports(self) -> list[Training]:
        """The trainings whose published weights are imported."""
        return self._trainings({row.name for row in self.rows if row.weights == "published"})

    def _trainings(self, rows: Collection[str]) -> list[Training]:
        seeds: dict[tuple[str, str, str], list[int]] = {}
        for job in self.jobs:
            if job.auxiliary != NO_AUXILIARY and job.row in rows:
                seeds.setdefault((job.row, job.backbone, job.auxiliary), []).append(job.seed)
        return [Training(*place, tuple(dict.fromkeys(numbers))) for place, numbers in seeds.items()]

    @property
    def controls(self) -> list[str]:
        """The rows that are never ranked."""
        return [row.name for row in self.rows if row.control]

    def shown(self, most: int) -> list[str]:
        """Return the rows of figures and gallery: no controls, unless all rows are controls, as on random weights.

        Args:
            most: largest number of rows, at least 2; of more, the first ones and the last are returned.
        """
        names = [name for name in self.main if not self.row(name).control] or list(self.main)
        return names if len(names) <= most else [*names[: most - 1], names[-1]]

    @property
    def marks(self) -> dict[str, tuple[str, ...]]:
        """The marks after the names of rows in tables: row to marks."""
        return {row.name: row.marks for row in self.rows}

    @property
    def titles(self) -> dict[str, str]:
        """The targets, in order: name to title."""
        return {target.name: target.title for target in self.targets}

    @property
    def domains(self) -> list[str]:
        """The domains of the targets."""
        return [domain for domain in DOMAINS if self.titles_of(domain)]

    @property
    def tables(self) -> list[str]:
        """The names of all tables except ablations, which name their files."""
        return ["main", "full", *self.domains]

    def titles_of(self, domain: str) -> dict[str, str]:
        """Return the targets of a domain, in order: name to title."""
        return {target.name: target.title for target in self.targets if target.domain == domain}

    def facts(self, rows: Sequence[str], today: date) -> list[str]:
        """Return the facts stated below every table: weights, sizes, resolution, subsets, recipes, version.

        Args:
            rows: rows of the table.
            today: when it is made.
        """
        shown = [row for row in self.rows if row.name in rows]
        published = [row.name for row in shown if row.recipe == "published"]
        given = [f"{row.name} ({row.checkpoint.file})" for row in shown if row.checkpoint]
        imported = [row.name for row in shown if row.weights == "published"]
        limits: dict[int, list[str]] = {}
        auxiliaries = {one.auxiliary for one in self.trainings if one.row in rows}
        known = {target.name: target.limit for target in self.targets}
        known |= {name: limit for name, limit in self.auxiliary_limits.items() if name in auxiliaries}
        for name, limit in known.items():
            if limit is not None:
                limits.setdefault(limit, []).append(name)
        return [
            *(_fact(name, self.backbones[name]) for name in dict.fromkeys(row.backbone for row in shown)),
            "maps evaluated at " + (f"{self.resolution} x {self.resolution}" if self.resolution else "the image size"),
            *(f"at most {limit} images per class and label of {', '.join(names)}" for limit, names in limits.items()),
            *([f"in their own publication's recipe: {', '.join(published)}"] if published else []),
            *([f"trained before, from a checkpoint: {', '.join(given)}"] if given else []),
            *([f"with published weights, trained by their authors: {', '.join(imported)}"] if imported else []),
            f"made on {today.isoformat()} by kanoclip {self.version}",
        ]


def _fact(name: str, backbone: BackboneConfig) -> str:
    size = backbone.image_size
    return f"{name}: model {backbone.model}, weights {backbone.weights}, image size {size} x {size}"


def read_run(path: Path) -> Run:
    """Read protocol.json.

    Raises:
        InputError: it was not written by `kanoclip protocol`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a file written by kanoclip protocol, found none; run it") from error
    return parse(Run, values, str(path))
