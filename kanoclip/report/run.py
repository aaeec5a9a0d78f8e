"""What the tables must know about a run beyond its metrics: protocol.json, made from the configuration."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from kanoclip.config import BackboneConfig, Strict, parse
from kanoclip.types import InputError

DOMAINS = ("industrial", "medical")  # each has a table, as the paper's Tables 1 and 2


class RunRow(Strict):
    """A row of some table.

    Attributes:
        name: as in the metrics.
        method: the registered method.
        recipe: "protocol", the common one, or "published", that of the method's own publication.
        options: of the method, as configured.
        backbone: one of the run's.
        control: shown to judge the others by, never ranked.
    """

    name: str
    method: str
    recipe: str
    options: dict[str, Any]
    backbone: str
    control: bool


class RunTarget(Strict):
    """A dataset that is scored.

    Attributes:
        name: as in the metrics.
        title: its name as printed.
        domain: "industrial" or "medical"; None for images of the user.
        limit: at most so many images a class and label were taken; None for all.
    """

    name: str
    title: str
    domain: str | None
    limit: int | None


class Run(Strict):
    """A run, as the tables state it.

    Attributes:
        version: of kanoclip.
        rows: of all tables.
        main: names of those of the main tables, in order.
        ablations: name of an ablation table: names of its rows, in order.
        targets: the datasets, in order.
        backbones: by name.
        resolution: pixels a side at which maps meet masks; None for the image size.
    """

    version: str
    rows: tuple[RunRow, ...]
    main: tuple[str, ...]
    ablations: dict[str, tuple[str, ...]]
    targets: tuple[RunTarget, ...]
    backbones: dict[str, BackboneConfig]
    resolution: int | None

    @property
    def controls(self) -> list[str]:
        """The rows that are never ranked."""
        return [row.name for row in self.rows if row.control]

    @property
    def titles(self) -> dict[str, str]:
        """The targets, in order: name to title."""
        return {target.name: target.title for target in self.targets}

    @property
    def domains(self) -> list[str]:
        """Those of the targets."""
        return [domain for domain in DOMAINS if self.titles_of(domain)]

    @property
    def tables(self) -> list[str]:
        """The tables that are not of an ablation, by the name of their files."""
        return ["main", "full", *self.domains]

    def titles_of(self, domain: str) -> dict[str, str]:
        """The targets of a domain, likewise."""
        return {target.name: target.title for target in self.targets if target.domain == domain}

    def facts(self, rows: Sequence[str], today: date) -> list[str]:
        """What the metrics do not say and every table must: weights, sizes, resolution, subsets, recipes, version.

        Args:
            rows: of the table.
            today: when it is made.
        """
        shown = [row for row in self.rows if row.name in rows]
        published = [row.name for row in shown if row.recipe == "published"]
        limits: dict[int, list[str]] = {}
        for target in self.targets:
            if target.limit is not None:
                limits.setdefault(target.limit, []).append(target.name)
        return [
            *(_fact(name, self.backbones[name]) for name in dict.fromkeys(row.backbone for row in shown)),
            "maps evaluated at " + (f"{self.resolution} x {self.resolution}" if self.resolution else "the image size"),
            *(f"at most {limit} images a class and label of {', '.join(names)}" for limit, names in limits.items()),
            *([f"in their own publication's recipe: {', '.join(published)}"] if published else []),
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
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a file written by kanoclip protocol, found none; run it") from error
    return parse(Run, values, str(path))
