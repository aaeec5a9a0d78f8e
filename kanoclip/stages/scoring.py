"""Score a target dataset with many rows and seeds in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanoclip.backbones.clip import Backbone
from kanoclip.checkpoints import load_method, read_record
from kanoclip.config import parse
from kanoclip.datasets.index import content
from kanoclip.files import sha256, write_json
from kanoclip.measuring import process_cost
from kanoclip.methods import Method, method_class
from kanoclip.result_store import Store, fingerprint
from kanoclip.rows import NO_AUXILIARY
from kanoclip.scoring import Scorer, ScoresInProgress, run_pass
from kanoclip.scoring.passes import BATCH_SIZE
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.fitting import size
from kanoclip.stages.method_digests import scoring_code
from kanoclip.types import InputError, logger

SCORES, COST = "scores.h5", "cost.json"


@dataclass(frozen=True)
class Scored:
    """A row and a seed to score.

    Attributes:
        row: name of the row in the tables.
        method: the registered method.
        out: the folder for scores.h5 and cost.json.
        options: options of a method without a checkpoint; a checkpoint contains its options.
        checkpoint: checkpoint of a trained method.
        seed: seed of a stochastic training-free method.
    """

    row: str
    method: str
    out: Path
    options: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """Return the options (with defaults), auxiliary dataset and seed, from the checkpoint or as given.

        Raises:
            InputError: a checkpoint is missing, is of another method, or is given to a method that takes none.
        """
        kind = method_class(self.method)
        if kind.trainable != (self.checkpoint is not None):
            takes = "needs a checkpoint" if kind.trainable else "takes no checkpoint"
            raise InputError(f"method {self.method} {takes}")
        if self.checkpoint is not None:
            return read_record(self.checkpoint)
        settings = parse(kind.Options, self.options, f"options of {self.method}")
        return {"options": settings.model_dump(mode="json"), "auxiliary": NO_AUXILIARY, "seed": self.seed}

    def build(self, backbone: Backbone) -> Method[Any]:
        """Return the method, ready to score."""
        if self.checkpoint is not None:
            return load_method(self.checkpoint, backbone, self.method)
        kind = method_class(self.method)
        return kind(backbone, parse(kind.Options, self.options, self.method), self.seed).to(backbone.device)


def score_stage(
    rows: Sequence[Scored],
    target: Dataset,
    backbone_name: str | None,
    device: str,
    store: Path,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Score a target dataset with the rows and seeds that are not in the store, running the tower once.

    Args:
        rows: the rows and seeds.
        target: the dataset.
        backbone_name: name of the backbone in the tables; default: its model.
        device: where to compute.
        store: folder of finished and unfinished results; an interrupted pass is resumed.
        batch_size: images per forward pass.

    Raises:
        InputError: an input is wrong. Finished scores of other rows are kept.
    """
    records = [row.record() for row in rows]
    frame = target.frame()
    config = target.config(frame)
    backbone_name = backbone_name or config.model
    depends = {"stage": "score", "content": content(frame), "backbone": target.provenance(frame)}
    results = Store(store)
    todo: dict[str, tuple[Scored, dict[str, Any]]] = {}
    for row, record in zip(rows, records, strict=True):
        names = {"method": row.row, "backbone": backbone_name, "auxiliary": record["auxiliary"], "dataset": target.name}
        attributes = {**names, "seed": record["seed"], "image_size": config.image_size, **_decisions(record)}
        made_from = {"checkpoint": sha256(row.checkpoint)} if row.checkpoint else {"options": record["options"]}
        code = scoring_code(method_class(row.method))
        key = fingerprint(**depends, **made_from, method=row.method, attributes=attributes, code=code)
        if not results.fetch(key, _outputs(row)):
            todo[key] = row, attributes
    logger.info("%s with %s: %d of %d rows and seeds to score", target.name, backbone_name, len(todo), len(rows))
    if not todo:
        return
    backbone, source, _ = target.open(device, frame)
    scorers = {
        key: Scorer(row.build(backbone), ScoresInProgress(results.partial(key), frame))
        for key, (row, _) in todo.items()
    }
    resumed = any(scorer.scores.begun for scorer in scorers.values())
    run_pass(list(scorers.values()), source, frame, batch_size, f"score {target.name}")
    seconds, memory = (None, None) if resumed else process_cost()
    cost_of_pass = {"pass": fingerprint(rows=sorted(todo)), "pass_seconds": seconds, "pass_peak_memory_mb": memory}
    for key, scorer in scorers.items():
        if scorer.failed is not None:
            continue
        row, attributes = todo[key]
        _finish(scorer, attributes, cost_of_pass, results.partial(key))
        results.keep(key, {name: results.partial(key) / name for name in (SCORES, COST)})
        results.fetch(key, _outputs(row))
    results.sweep()
    for scorer in scorers.values():
        if scorer.failed is not None:
            raise scorer.failed


def _decisions(record: dict[str, Any]) -> dict[str, Any]:
    """Return the thresholds of a checkpoint as attributes of scores.h5, or the reason why there are none."""
    if record["auxiliary"] == NO_AUXILIARY:
        return {"no_threshold": "not trained, so no threshold from an auxiliary dataset"}
    found = record.get("threshold", {"reason": "trained without choosing a threshold"})
    if "reason" in found:
        return {"no_threshold": found["reason"]}
    known = {f"threshold_{level}": found[level] for level in ("image", "pixel") if found[level] is not None}
    return (
        known
        if len(known) == 2
        else {
            **known,
            "no_threshold": "the auxiliary dataset has images without masks, or none that is visible at this size",
        }
    )


def _outputs(row: Scored) -> dict[str, Path]:
    return {name: row.out / name for name in (SCORES, COST)}


def _finish(scorer: Scorer, attributes: dict[str, Any], cost_of_pass: dict[str, Any], folder: Path) -> None:
    """Write scores.h5 and, in a separate file because it differs between runs, its cost and that of its pass."""
    method = scorer.method
    scorer.scores.finish(folder / SCORES, {**attributes, "sigma": method.sigma}, method.after_class)
    names = ("method", "backbone", "auxiliary", "dataset", "seed")
    cost = {
        **{name: attributes[name] for name in names},
        "images": len(scorer.scores.frame),
        "seconds": scorer.scores.seconds,
        "learnable_parameters": size(method.learned().values()),
        "total_parameters": size(method.parameters()),
        **cost_of_pass,
    }
    write_json(folder / COST, cost)
