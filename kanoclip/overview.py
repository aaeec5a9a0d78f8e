"""Generate the tables of methods in docs/methods/README.md and README.md from the registry.

Models are built on torch's meta device, where tensors have shapes but no values, so that ViT-L/14 takes no memory and
its operations are counted without being run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.cost import tower_operations
from kanoclip.backbones.descriptions import describe
from kanoclip.backbones.taps import CLIP
from kanoclip.config import BackboneConfig
from kanoclip.methods import Batch, Method, method_class, method_names
from kanoclip.published_weights import load_release, release_names
from kanoclip.types import InputError

MODEL, SIZE = "ViT-L-14-336-quickgelu", 518
META = torch.device("meta")
ROOT = Path(__file__).parents[1]

PAGE = f"""# Methods

What each method learns, reads and costs on ViT-L/14@336px at {SIZE} pixels, with its default options. Made by
`make generated` from the code; do not edit. Controls are left out.

"""
COLUMNS = """- learned: number of trained parameters.
- reads: the taps that scoring needs, KIND/BLOCK of CLIP's image tower, or TOWER:KIND/BLOCK of a second tower
  ([backbones.md](../backbones.md)).
- phases: phases of its training, in order; *images* if a phase augments its images, so that it cannot use a cache.
- GFLOP: 10⁹ operations per image to score, with the texts of its class already encoded; two per multiplication with
  addition, for matrix products and convolutions. ≥: CLIP's tower alone, by
  [cost.py](../../kanoclip/backbones/cost.py), if the method's operations depend on values.
- published: auxiliary datasets for which its authors' weights are available; *by hand* if only `kanoclip import`
  accepts files of their code.
"""
RELEASES = """
## Published weights

How to take them: [published-weights.md](../published-weights.md).

"""
BEGIN, END = "<!-- methods: made by `make generated` -->", "<!-- end of methods -->"


@dataclass(frozen=True)
class Overview:
    """The properties of a method.

    Attributes:
        name: as registered.
        about: the first line of its docstring.
        learned: number of learned parameters.
        reads: taps of scoring, sorted.
        towers: models of second towers.
        phases: names of the phases of its training.
        images: whether training augments images.
        operations: per image, in total.
        counted: whether they were counted; otherwise they are those of the towers, by formula.
        published: auxiliary datasets with published weights; None if none are known.
    """

    name: str
    about: str
    learned: int
    reads: tuple[str, ...]
    towers: tuple[str, ...]
    phases: tuple[str, ...]
    images: bool
    operations: float
    counted: bool
    published: tuple[str, ...] | None


def overviews() -> list[Overview]:
    """Return the overviews of all methods except controls, in the order of their names."""
    return [overview(name) for name in method_names() if not method_class(name).control]


def overview(name: str) -> Overview:
    """Return the overview of a method, on the protocol's backbone with the second towers that it reads."""
    kind = method_class(name)
    towers = {
        tower: {**values, "weights": "random:0"} for tower, values in kind.published_backbone.get("towers", {}).items()
    }
    backbone = on_meta(BackboneConfig(model=MODEL, weights="random:0", image_size=SIZE, towers=towers))
    with META:
        method = kind(backbone, kind.Options(), 0).eval()
    taps = kind.reads(method.options, backbone.shape)
    phases = method.phases()
    counted = operations(method)
    used = {tap.tower for tap in taps} - {CLIP}
    by_formula = tower_operations(list(map(str, taps)), backbone.shape, describe(MODEL).patch_size or 1)
    return Overview(
        name=name,
        about=(kind.__doc__ or "").splitlines()[0].rstrip("."),
        learned=sum(value.numel() for value in method.learned().values()),
        reads=tuple(map(str, sorted(taps))),
        towers=tuple(backbone.config.towers[tower].model for tower in sorted(used)),
        phases=tuple(phase.name for phase in phases),
        images=any(phase.augment is not None for phase in phases),
        operations=by_formula if counted is None else counted,
        counted=counted is not None,
        published=tuple(load_release(name).offered) if name in release_names() else None,
    )


def on_meta(config: BackboneConfig) -> Backbone:
    """Build a backbone on the meta device, where tensors have shapes but no values."""
    with META:
        return load_backbone(config, META)


@torch.no_grad()
def operations(method: Method[Any]) -> float | None:
    """Return the operations for the second of two equal images, whose texts are already encoded.

    Returns:
        None if the operations depend on values, which a backbone on the meta device does not have.
    """
    size = method.backbone.config.image_size
    taps = method.reads(method.options, method.backbone.shape)
    totals = []
    try:
        with FlopCounterMode(display=False) as counter:
            for _ in range(2):
                features = method.backbone.encode_images(torch.empty(1, 3, size, size, device=META), taps)
                method(Batch(["image"], ["object"], features))
                totals.append(counter.get_total_flops())
    except InputError:
        raise
    except (RuntimeError, NotImplementedError, ValueError, TypeError):  # what torch raises where values are needed
        return None
    return float(totals[1] - totals[0])


def page(rows: list[Overview]) -> str:
    """Return docs/methods/README.md."""
    lines = ["| method | learned | reads | phases | GFLOP | published |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        link = f"[`{row.name}`]({_document(row.name, 'docs/methods')})" if _document(row.name, "") else f"`{row.name}`"
        reads = ", ".join(row.reads) + (f" (second tower: {', '.join(row.towers)})" if row.towers else "")
        phases = (", ".join(row.phases) + ("; images" if row.images else "")) or "none"
        published = "" if row.published is None else ", ".join(row.published) or "by hand"
        cells = [f"{link}: {row.about}", f"{row.learned:,}", reads, phases, _gigas(row), published]
        lines.append(f"| {' | '.join(cells)} |")
    return PAGE + "\n".join(lines) + "\n\n" + COLUMNS + RELEASES + "\n".join(_releases(rows)) + "\n"


def _releases(rows: list[Overview]) -> list[str]:
    """Return the table of published weights."""
    lines = ["| method | trained on | checksum | licence | layout |", "| --- | --- | --- | --- | --- |"]
    for row in (row for row in rows if row.published is not None):
        release = load_release(row.name)
        for auxiliary in release.offered:
            files = release.trained_on(auxiliary)
            datasets = ", ".join([auxiliary, *(other for file in files for other in file.also_trained_on)])
            known = "known" if all(file.sha256 or file.git_blob for file in files) else "unknown"
            cells = [f"[`{row.name}`]({release.homepage})", datasets, known, release.licence, release.layout.strip()]
            lines.append(f"| {' | '.join(cells)} |")
        if not release.offered:
            cells = [f"[`{row.name}`]({release.homepage})", f"by hand: {release.not_offered}", "unknown"]
            lines.append(f"| {' | '.join([*cells, release.licence, release.layout.strip()])} |")
    return lines


def short(rows: list[Overview]) -> str:
    """Return the table of README.md."""
    lines = ["| method | | learned | GFLOP per image |", "| --- | --- | --- | --- |"]
    for row in rows:
        document = _document(row.name, "")
        about = row.about + (f" ([formulas]({document}))" if document else "")
        lines.append(f"| `{row.name}` | {about} | {row.learned:,} | {_gigas(row)} |")
    return "\n".join(lines)


def with_table(readme: str, table: str, where: str) -> str:
    """Return a README with a table inserted between its marks.

    Args:
        readme: its text.
        table: Markdown.
        where: the file, for the message.

    Raises:
        InputError: the marks are missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{where}: expected the marks {BEGIN} and {END}, found none; put them where the table belongs")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _document(name: str, folder: str) -> str:
    """Return the path of a method's page, from the repository's root or docs/methods; "" if there is none."""
    for path in (f"docs/methods/{name}.md", f"docs/{name}.md"):
        if (ROOT / path).is_file():
            if not folder:
                return path
            return path.removeprefix("docs/methods/") if path.startswith(folder) else f"../{path.removeprefix('docs/')}"
    return ""


def _gigas(row: Overview) -> str:
    return ("" if row.counted else "≥ ") + f"{row.operations / 1e9:,.0f}"
