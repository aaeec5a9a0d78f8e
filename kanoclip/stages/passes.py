"""The passes of a run as its folder describes them: which rows and seeds, with which checkpoints, to which files."""

import json
from pathlib import Path

from kanoclip import protocol
from kanoclip.config import Configuration, parse
from kanoclip.layout import Layout
from kanoclip.protocol import Job, Pass
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.types import InputError


def score_target(
    results: Path, backbone: str, target: str, ablations: bool, device: str, batch_size: int, workers: int
) -> None:
    """Score a target with every row and seed of a run that uses a backbone.

    Args:
        results: the folder of the run.
        backbone: name of a configured backbone.
        target: name of a target dataset.
        ablations: take the rows that are in ablation tables only, instead of those of the main tables.
        device: where to compute.
        batch_size: images at once.
        workers: threads that load images.

    Raises:
        InputError: the run has no such pass, or an input is missing or does not fit.
    """
    layout = Layout(results)
    config = read_configuration(layout)
    found = find_pass(config, backbone, target, ablations)
    features = layout.features(backbone, target) if "targets" in config.cache else None
    dataset = Dataset(target, layout.index(target), features, protocol.backbones(config)[backbone], workers)
    rows = [scored(layout, job) for job in found.jobs]
    score_stage(rows, dataset, backbone, device, layout.store, batch_size)


def scored(layout: Layout, job: Job) -> Scored:
    """Return what a job scores with, and where its scores go."""
    row = job.row
    out = layout.scores(row.name, row.backbone, job.auxiliary, job.target, job.seed)
    trained = row.kind.trainable
    checkpoint = layout.checkpoint(row.name, row.backbone, job.auxiliary, job.seed) if trained else None
    return Scored(row.name, row.method, out, {} if trained else row.options, checkpoint, job.seed)


def read_configuration(layout: Layout) -> Configuration:
    """Read the configuration of a run.

    Raises:
        InputError: the folder has none.
    """
    try:
        values = json.loads(layout.configuration.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{layout.configuration}: expected the configuration of a run, found none; run kanoclip protocol"
        ) from error
    return parse(Configuration, values, str(layout.configuration))


def find_pass(config: Configuration, backbone: str, target: str, ablations: bool) -> Pass:
    """Return a pass of a run.

    Raises:
        InputError: no row uses this backbone on this target.
    """
    jobs = protocol.jobs(config)
    if ablations:
        main = {job.row.name for job in jobs}
        jobs = [job for job in protocol.all_jobs(config) if job.row.name not in main]
    for found in protocol.passes(jobs):
        if (found.backbone, found.target) == (backbone, target):
            return found
    raise InputError(f"no row of this run scores '{target}' with the backbone '{backbone}'")
