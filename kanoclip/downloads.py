"""List the datasets and pretrained weights that a run still needs, with licence, origin and destination. No torch."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kanoclip.config import BackboneConfig, Configuration
from kanoclip.datasets.places import Place
from kanoclip.datasets.public_photographs import load_photographs
from kanoclip.datasets.specs import ArchiveSource, ManualSource, Origin, dataset_names, load_spec
from kanoclip.published_weights import files_trained_on, load_release
from kanoclip.run import Run
from kanoclip.types import InputError, logger

PRETRAINED = "pretrained"  # of a second tower: timm's own weights


@dataclass(frozen=True)
class Missing:
    """A dataset or weights that are not on disk yet.

    Attributes:
        what: a dataset, or the weights of a backbone.
        size: in words; "unknown" if it is not stated by its authors.
        licence: in words.
        get: "by the workflow" or "by hand".
        origin: where it comes from.
        destination: where it goes; files put there by hand are not downloaded.
    """

    what: str
    size: str
    licence: str
    get: str
    origin: str
    destination: str


def fetched_weights(config: BackboneConfig, root: Path = Path()) -> list[str]:
    """Return the weights of a backbone that come from a model hub: CLIP's, and those of second towers.

    >>> fetched_weights(BackboneConfig(model="ViT-L-14-336-quickgelu", weights="openai"))
    ['ViT-L-14-336-quickgelu, openai']
    >>> fetched_weights(BackboneConfig(model="kanoclip-tiny", weights="embedded"))
    []
    """
    own = config.weights
    tags = [] if own == "embedded" or _is_local(own, root) else [f"{config.model}, {own}"]
    towers = config.towers.values()
    return tags + [f"{tower.model}, timm" for tower in towers if tower.weights == PRETRAINED]


def missing(config: Configuration, run: Run, root: Path = Path()) -> list[Missing]:
    """Return everything that a run has to get before it can start.

    Args:
        config: the configuration.
        run: what it expands to.
        root: the folder that the workflow runs in.
    """
    auxiliaries = [one.auxiliary for one in run.trainings if one.row in run.main]
    names = dict.fromkeys([*config.targets, *auxiliaries])
    resources = root / config.resources
    return [
        *_datasets(names, config, resources),
        *_weights(run.backbones, resources, root),
        *_released(run, resources),
        *_photographs(config, resources),
    ]


def render(found: list[Missing]) -> str:
    """Return the list for a terminal: one block per entry, so that long URLs are not wrapped."""
    if not found:
        return "nothing is missing"
    blocks = []
    for one in found:
        head, *rest = asdict(one).items()
        blocks.append("\n".join([str(head[1]), *(f"  {name + ':':<13}{value}" for name, value in rest)]))
    return "\n\n".join(blocks)


def _datasets(names: Mapping[str, None], config: Configuration, resources: Path) -> Iterator[Missing]:
    for name in names:
        entry = config.datasets.get(name)
        local = entry is not None and entry.path is not None
        if local or name not in dataset_names():
            continue
        found = _dataset(load_spec(name), resources)
        if found is not None:
            yield found


def _dataset(spec: Origin, resources: Path) -> Missing | None:
    source, place = spec.source, Place(resources / spec.name)
    if not isinstance(source, ArchiveSource | ManualSource):
        return None
    try:
        if place.is_filled(source):
            return None
    except InputError as error:  # files that `download` refuses: the dataset is still needed
        logger.warning("%s", error)
    size = spec.download_size or "unknown"
    if isinstance(source, ArchiveSource):
        origin, destination = " or ".join(source.urls), str(place.archives / source.file)
        return Missing(spec.name, size, spec.licence, "by the workflow", origin, destination)
    origin, destination = f"{source.what} from {source.where}", f"{place.archives} (or unpacked in {place.images})"
    return Missing(spec.name, size, spec.licence, "by hand", origin, destination)


def _photographs(config: Configuration, resources: Path) -> Iterator[Missing]:
    """Yield the public photographs for `snakemake pretrain`."""
    for name in config.pretraining.public_photographs:
        found = _dataset(load_photographs(name), resources)
        if found is not None:
            yield found


def _weights(backbones: Mapping[str, BackboneConfig], resources: Path, root: Path) -> Iterator[Missing]:
    for name, config in backbones.items():
        if (resources / "backbones" / f"{name}.json").is_file():
            continue
        for tag in fetched_weights(config, root):
            licence, origin = "see the model's card", "the Hugging Face hub"
            yield Missing(f"weights of {name}: {tag}", "unknown", licence, "by the workflow", origin, "$HF_HOME")


def _released(run: Run, resources: Path) -> Iterator[Missing]:
    imports = {(run.row(one.row).method, one.auxiliary) for one in run.imports if one.row in run.main}
    for method, auxiliary in sorted(imports):
        licence = load_release(method).licence
        for file in files_trained_on(method, auxiliary):
            path = resources / "weights" / method / auxiliary / file.name
            if not path.is_file():
                size = "unknown" if file.bytes is None else f"{file.bytes / 1e6:.1f} MB"
                what, origin = f"weights of {method}, trained on {auxiliary}", " or ".join(file.urls)
                yield Missing(what, size, licence, "by the workflow", origin, str(path))


def _is_local(weights: str, root: Path) -> bool:
    return weights.startswith("random:") or (root / weights).is_file()
