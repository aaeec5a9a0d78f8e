"""Set up a scoring pass of a run: its rows and seeds, their checkpoints and output files."""

from collections.abc import Sequence

from kanoclip.config import BackboneConfig
from kanoclip.layout import Layout
from kanoclip.rows import NO_AUXILIARY, PassRow, checkpoint_file
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage


def score_target(
    layout: Layout,
    target: str,
    backbone: str,
    config: BackboneConfig,
    rows: Sequence[PassRow],
    cached: bool,
    device: str,
    batch_size: int,
    workers: int,
) -> None:
    """Score a target with rows of a run that share a backbone.

    Args:
        layout: layout of the run.
        target: name of a target dataset.
        backbone: name of the backbone.
        config: configuration of the backbone.
        rows: the rows, each with its seeds.
        cached: read features of the target from their cache instead of computing them.
        device: where to compute.
        batch_size: images per forward pass.
        workers: threads that load images.

    Raises:
        InputError: an input is missing or wrong.
    """
    features = layout.features(backbone, target) if cached else None
    dataset = Dataset(target, layout.index(target), features, config, workers)
    todo = [scored(layout, backbone, target, row, seed) for row in rows for seed in row.seeds]
    score_stage(todo, dataset, backbone, device, layout.store, batch_size)


def scored(layout: Layout, backbone: str, target: str, row: PassRow, seed: int) -> Scored:
    """Return the scoring job of a row and seed, with its checkpoint and output folder."""
    trained = row.auxiliary != NO_AUXILIARY
    checkpoint = layout.checkpoint(row.row, backbone, row.auxiliary, seed) if trained else None
    if row.checkpoint is not None:
        checkpoint = checkpoint_file(row.checkpoint)
    out = layout.scores(row.row, backbone, row.auxiliary, target, seed)
    return Scored(row.row, row.method, out, {} if trained else row.options, checkpoint, seed)
