"""The score passes of a run: which rows and seeds, with which checkpoints, to which files."""

from pathlib import Path

from kanoclip.layout import Layout
from kanoclip.run import NO_AUXILIARY, Job, Run, read_run
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage


def score_target(
    results: Path, backbone: str, target: str, ablations: bool, device: str, batch_size: int, workers: int
) -> None:
    """Score a target with every row and seed of a run that uses a backbone.

    Args:
        results: the folder of the run, with protocol.json.
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
    run = read_run(layout.protocol)
    found = run.find_pass(backbone, target, ablations)
    features = layout.features(backbone, target) if run.cached_targets else None
    dataset = Dataset(target, layout.index(target), features, run.backbones[backbone], workers)
    rows = [scored(layout, run, job) for job in found.jobs]
    score_stage(rows, dataset, backbone, device, layout.store, batch_size)


def scored(layout: Layout, run: Run, job: Job) -> Scored:
    """Return what a job scores with, and where its scores go."""
    row, trained = run.row(job.row), job.auxiliary != NO_AUXILIARY
    out = layout.scores(row.name, row.backbone, job.auxiliary, job.target, job.seed)
    checkpoint = layout.checkpoint(row.name, row.backbone, job.auxiliary, job.seed) if trained else None
    return Scored(row.name, row.method, out, {} if trained else row.options, checkpoint, job.seed)
