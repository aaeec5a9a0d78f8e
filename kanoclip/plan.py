"""Estimate the resources of a run before it starts: images, disk space, downloads, jobs, hours. No torch."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from kanoclip.backbones.cost import tap_values
from kanoclip.backbones.shape import tower_shape
from kanoclip.config import Configuration
from kanoclip.datasets.specs import ArchiveSource, ManualSource, dataset_names, load_spec
from kanoclip.downloads import fetched_weights
from kanoclip.layout import Layout
from kanoclip.rates import hours, read_rates, unrated
from kanoclip.run import Run
from kanoclip.types import InputError

BYTES = 2  # per stored value: fp16
GB = 1e9


@dataclass(frozen=True)
class DatasetPlan:
    """The resources of a dataset.

    Attributes:
        name: as configured.
        images: number of images in its test split; None if unknown before it is prepared.
        counted: whether they were counted in its index; otherwise they come from the dataset's spec.
        features: bytes of features to store; None if unknown.
        get: "" if the images exist or are drawn, "download", or "by hand".
        where: how to get them by hand.
    """

    name: str
    images: int | None
    counted: bool
    features: int | None
    get: str
    where: str


@dataclass(frozen=True)
class Plan:
    """The resources of a run.

    Attributes:
        run: its name.
        datasets: targets, then auxiliary datasets that are not targets.
        weights: backbones whose weights open_clip may have to download.
        jobs: kind of job to number, for the main tables.
        ablations: kind of job to additional number with `snakemake ablation`.
        missing: bytes of features that are not on disk yet, except unknown ones.
        free: free bytes on the disk.
        hours: by part of the work, on one CPU core and on a GPU; None without a measured rate.
        unrated: rows whose methods are not in the hours, because no rate was measured.
    """

    run: str
    datasets: tuple[DatasetPlan, ...]
    weights: tuple[str, ...]
    jobs: dict[str, int]
    ablations: dict[str, int]
    missing: int
    free: int
    hours: dict[str, dict[str, float] | None]
    unrated: dict[str, list[str]]

    @property
    def features(self) -> int:
        """Bytes of all features, except unknown ones."""
        return sum(one.features or 0 for one in self.datasets)

    def check(self) -> None:
        """Refuse a run whose features do not fit.

        Raises:
            InputError: the disk is too small.
        """
        if self.missing > self.free:
            raise InputError(
                f"results/{self.run}: the features need {self.missing / GB:.1f} GB, {self.free / GB:.1f} GB of the "
                "disk are free; free space, set limit for a dataset, or set cache: []"
            )


def make_plan(config: Configuration, run: Run, root: Path = Path()) -> Plan:
    """Estimate the resources of a run.

    Args:
        config: the configuration.
        run: what it expands to.
        root: the folder that the workflow runs in.
    """
    layout = Layout(root / "results" / config.run)
    auxiliaries = dict.fromkeys(one.auxiliary for one in run.trainings if one.row in run.main)
    names = list(dict.fromkeys([*config.targets, *auxiliaries]))
    datasets = tuple(_dataset(name, config, run, layout, root) for name in names)
    images, measured = {one.name: one.images or 0 for one in datasets}, read_rates()
    return Plan(
        run=config.run,
        datasets=datasets,
        weights=tuple(name for name, one in run.backbones.items() if fetched_weights(one, root)),
        jobs=_jobs(run, datasets, len(auxiliaries)),
        ablations=_ablation_jobs(run),
        missing=sum(max(0, needed - _on_disk(path)) for path, needed in _feature_files(run, images, layout)),
        free=shutil.disk_usage(_existing(layout.root)).free,
        hours={device: hours(run, images, rates, config.threshold_folds) for device, rates in measured.items()},
        unrated={device: unrated(run, rates) for device, rates in measured.items()},
    )


def summary_line(config: Configuration, run: Run, root: Path = Path()) -> str:
    """Return the plan of a run in one line, for the start of a workflow."""
    plan = make_plan(config, run, root)
    by_hand = [one.name for one in plan.datasets if one.get == "by hand"]
    unknown = " and those of datasets not prepared yet" * any(one.images is None for one in plan.datasets)
    parts = [
        f"{sum(one.images or 0 for one in plan.datasets):,} images{unknown} of {len(plan.datasets)} datasets",
        f"{sum(plan.jobs.values())} jobs from scratch",
        f"{plan.missing / GB:.1f} GB of features to store, {plan.free / GB:.1f} GB free",
        *([f"to be fetched by hand: {', '.join(by_hand)}"] if by_hand else []),
    ]
    return f"Plan of {plan.run}: {'; '.join(parts)}"


def render(plan: Plan) -> str:
    """Return the plan as text for a terminal."""
    lines = [f"{'dataset':20} {'images':>8} {'features':>10}  to get"]
    for one in plan.datasets:
        images = "unknown" if one.images is None else f"{one.images:,}"
        size = "unknown" if one.features is None else f"{one.features / GB:.2f} GB" if one.features else "none"
        origin = one.get or ("prepared" if one.counted else "nothing")
        lines.append(f"{one.name:20} {images:>8} {size:>10}  {origin}{f': {one.where}' if one.where else ''}")
    lines += ["", f"features: {plan.features / GB:.2f} GB, {plan.missing / GB:.2f} GB of them not stored yet; "]
    lines[-1] += f"{plan.free / GB:.2f} GB of the disk are free"
    if plan.weights:
        lines.append(f"weights:  those of {', '.join(plan.weights)} come from a model hub, unless they are here")
    lines.append(_counted("jobs:    ", plan.jobs))
    if plan.ablations:
        lines.append(_counted("ablation:", plan.ablations))
    for device, parts in plan.hours.items():
        name = "one CPU core" if device == "cpu" else "one GPU"
        if parts is None:
            lines.append(f"hours:    {name}: no measured rate yet")
        else:
            shares = ", ".join(f"{part} {value:.3g}" for part, value in parts.items())
            rows = plan.unrated[device]
            without = f"; without the methods of {', '.join(rows)}, which have no measured rate" if rows else ""
            lines.append(f"hours:    {name}: {sum(parts.values()):.3g} ({shares}), estimated{without}")
    return "\n".join(lines)


def _counted(head: str, jobs: dict[str, int]) -> str:
    parts = ", ".join(f"{count} {kind}" for kind, count in jobs.items() if count)
    return f"{head} {sum(jobs.values())} ({parts})"


def _dataset(name: str, config: Configuration, run: Run, layout: Layout, root: Path) -> DatasetPlan:
    entry = config.datasets.get(name)
    local = entry is not None and entry.path is not None
    spec = load_spec(name) if name in dataset_names() else None
    counted = _indexed(layout.index(name))
    expected = None if local or spec is None else spec.count(entry.limit if entry else None)
    images = expected if counted is None else counted
    get, where = "", ""
    here = (root / config.resources / name / "source.json").is_file()
    if spec is not None and not local and not here:
        get = {"archive": "download", "manual": "by hand"}.get(spec.source.kind, "")
        where = f"{spec.source.what} from {spec.source.where}" if isinstance(spec.source, ManualSource) else ""
    sizes = [_bytes_of(run, backbone, taps[name]) for backbone, taps in run.taps.items() if name in taps]
    known = [size for size in sizes if size is not None]
    features = sum(known) * images if images is not None and len(known) == len(sizes) else None if sizes else 0
    return DatasetPlan(name, images, counted is not None, features, get, where)


def _indexed(index: Path) -> int | None:
    """Return the number of test images of a prepared dataset."""
    if not index.is_file():
        return None
    from kanoclip.datasets.index import read_index

    return len(read_index(index))


def _bytes_of(run: Run, backbone: str, taps: Collection[str]) -> int | None:
    """Return the bytes per image of some taps."""
    values = [tap_values(tap, tower_shape(run.backbones[backbone])) for tap in taps]
    known = [value for value in values if value is not None]
    return BYTES * sum(known) if len(known) == len(values) else None


def _feature_files(run: Run, images: dict[str, int], layout: Layout) -> Iterator[tuple[Path, int]]:
    """Yield every feature file with its final size in bytes."""
    for backbone, of_datasets in run.taps.items():
        for dataset, taps in of_datasets.items():
            yield layout.features(backbone, dataset), (_bytes_of(run, backbone, taps) or 0) * images.get(dataset, 0)


def _on_disk(features: Path) -> int:
    """Return the bytes that a feature file takes already; an unfinished one has its final size."""
    found = [path for path in (features, features.with_name(f"{features.name}.partial")) if path.is_file()]
    return found[0].stat().st_size if found else 0


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _jobs(run: Run, datasets: Collection[DatasetPlan], auxiliaries: int) -> dict[str, int]:
    """Count the jobs of the main tables, as the workflow's rules make them."""
    trainings = [one for one in run.trainings if one.row in run.main]
    imports = [one for one in run.imports if one.row in run.main]
    passes = [one for one in run.passes if not one.ablations]
    cached = {(one.backbone, one.auxiliary) for one in trainings if one.auxiliary in run.taps.get(one.backbone, {})}
    if run.cached_targets:
        cached |= {(one.backbone, one.target) for one in passes if one.target in run.taps.get(one.backbone, {})}
    return {
        "download": sum(_is_downloaded(one) for one in datasets),
        "fetch backbone": sum(bool(fetched_weights(run.backbones[name])) for name in {one.backbone for one in passes}),
        "prepare": len(datasets),
        "knowledge": auxiliaries,
        "encode": len(cached),
        "train": len(trainings),
        "fetch weights": len({(run.row(one.row).method, one.auxiliary) for one in imports}),
        "import": len(imports),
        "score": len(passes),
        "evaluate": len(passes),
        "figures": len(run.targets) + 1,
        "tables": 3,  # results, runtime and the protocol below them
        "page": 2,  # the page, and the rule that requests everything
    }


def _is_downloaded(one: DatasetPlan) -> bool:
    """Return whether a dataset has a job that downloads or unpacks it."""
    return one.name in dataset_names() and isinstance(load_spec(one.name).source, ArchiveSource | ManualSource)


def _ablation_jobs(run: Run) -> dict[str, int]:
    """Count the trainings, imports and passes of rows that are in ablation tables only."""
    trainings = sum(one.row not in run.main for one in run.trainings)
    imports = sum(one.row not in run.main for one in run.imports)
    passes = sum(one.ablations for one in run.passes)
    jobs = {"train": trainings, "import": imports, "score": passes, "evaluate": passes}
    return {kind: count for kind, count in jobs.items() if count} if passes else {}
