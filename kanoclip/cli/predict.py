"""Commands for your own images: predict, and calibrate decisions on normal images."""

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kanoclip.cli.options import BatchSize, Device, MethodSettings, input_file, parse_options
from kanoclip.types import InputError, logger

if TYPE_CHECKING:
    from kanoclip.predict.detector import Detector

SKIPPED_SHOWN = 10  # skipped files named in the log
WORST_SHOWN = 10  # images in the table at the end
STOPPED = 130  # exit code after Ctrl-C, as in shells

Images = Annotated[list[Path], typer.Argument(help="Images, folders, or text files (.txt) with one path per line.")]
ClassName = Annotated[str, typer.Option(help='What the images show, such as "metal plate".')]
MethodName = Annotated[
    str | None, typer.Option(help="Name of a training-free method. Default: the KAnoCLIP in the package.")
]
Checkpoint = Annotated[Path | None, input_file("Checkpoint of a method that you trained, instead of --method.")]
BackboneName = Annotated[
    str | None, typer.Option(help="CLIP model, such as ViT-L-14-336-quickgelu; `kanoclip list backbones` lists them.")
]
Weights = Annotated[
    str | None, typer.Option(help="Pretrained weights: a tag of open_clip or a file. Default: openai where it exists.")
]
ImageSize = Annotated[
    int | None, typer.Option(help="Side of the square input in pixels. Default: the size of the model.", min=1)
]
Tiles = Annotated[
    int | None, typer.Option(help="Cut larger images into tiles of this size in pixels, to find small defects.", min=16)
]
Maps = Literal["png", "hdf5"]
FalseAlarms = Annotated[float, typer.Option(help="Target share of normal images that are called anomalous.")]
AllThreads = Annotated[int | None, typer.Option(help="Number of CPU threads. Default: one per core.", min=1)]


def predict(
    images: Images,
    class_name: ClassName = "object",
    normals: Annotated[
        list[Path] | None, typer.Option(help="Normal images, from which the threshold is chosen. Can be repeated.")
    ] = None,
    false_alarms: FalseAlarms = 0.01,
    card: Annotated[Path | None, input_file("Threshold written by `kanoclip calibrate`.")] = None,
    method: MethodName = None,
    checkpoint: Checkpoint = None,
    backbone: BackboneName = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    settings: MethodSettings = None,
    tiles: Tiles = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("predictions"),
    pictures: Annotated[bool, typer.Option(help="Write heat maps, masks and thumbnails.")] = True,
    maps: Annotated[
        Maps | None, typer.Option(help="Write raw anomaly maps as well: a 16-bit PNG per image, or one HDF5 file.")
    ] = None,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    threads: AllThreads = None,
) -> None:
    """Find anomalies in images without labels.

    Writes scores, heat maps, decisions and a page that shows them. The same command resumes an interrupted run.
    """
    from kanoclip.predict.cards import use_card, write_card
    from kanoclip.predict.coco import write_coco
    from kanoclip.predict.drawing import Pictures
    from kanoclip.predict.find import ImageFiles
    from kanoclip.predict.folder import Job, predict_files
    from kanoclip.predict.gallery import failed, write_gallery
    from kanoclip.predict.maps_file import write_maps

    if normals and card:
        raise InputError("--normals and --card: expected one of them, found both")
    skipped = _Skipped(out)
    files = ImageFiles(images, skipped.add)
    skipped.say()
    detector = _detector(
        method, checkpoint, backbone, weights, image_size, settings, class_name, tiles, device, threads
    )
    if card:
        use_card(card, detector)
    if normals:
        _calibrate(detector, normals, false_alarms, batch_size)
        write_card(out / "card.json", detector, date.today())
    logger.info("model: %s%s", detector.description, _worth(checkpoint, method, backbone))
    logger.info("decisions: %s", detector.threshold.words)
    workers = min(8, threads or os.cpu_count() or 1)
    job = Job(detector, files, out, Pictures(out, pictures, maps or ""), batch_size, workers)
    try:
        predict_files(job)
    except KeyboardInterrupt:
        logger.info("stopped; run the same command to resume")
        raise typer.Exit(STOPPED) from None
    if maps == "hdf5":
        write_maps(out)
    write_coco(out)
    write_gallery(out, detector, pictures, maps or "")
    _show(out)
    broken = failed(out)
    if broken:
        raise InputError(f"{len(broken)} of {len(files)} files could not be read; {out / 'predictions.csv'} says why")


def calibrate(
    images: Images,
    out: Annotated[Path, typer.Option(help="JSON file to write the threshold to.")],
    class_name: ClassName = "object",
    false_alarms: FalseAlarms = 0.01,
    method: MethodName = None,
    checkpoint: Checkpoint = None,
    backbone: BackboneName = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    settings: MethodSettings = None,
    tiles: Tiles = None,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    threads: AllThreads = None,
) -> None:
    """Choose a threshold from normal images.

    `kanoclip predict --card` reads the file that this command writes.
    """
    from kanoclip.predict.cards import write_card

    detector = _detector(
        method, checkpoint, backbone, weights, image_size, settings, class_name, tiles, device, threads
    )
    _calibrate(detector, images, false_alarms, batch_size)
    write_card(out, detector, date.today())
    typer.echo(f"{detector.threshold.words}: a score of {detector.threshold.image:.4f} or more")


def _detector(
    method: str | None,
    checkpoint: Path | None,
    backbone: str | None,
    weights: str | None,
    image_size: int | None,
    settings: list[str] | None,
    class_name: str,
    tiles: int | None,
    device: str,
    threads: int | None,
) -> "Detector":
    from kanoclip.predict.models import DEFAULT, TINY, load

    if checkpoint and method:
        raise InputError("--checkpoint and --method: expected one of them, found both; a checkpoint has its method")
    model: str | Path = checkpoint or method or DEFAULT
    if model == DEFAULT and not method and backbone not in (None, TINY):
        model, backbone = str(backbone), None
    return load(
        model,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        class_name=class_name,
        tile=tiles,
        options=parse_options(settings),
        device=device,
        threads=threads,
    )


def _worth(checkpoint: Path | None, method: str | None, backbone: str | None) -> str:
    """Return a caveat about the model in the package; "" for other models."""
    from kanoclip.predict.models import SHIPPED_WORTH, TINY

    if checkpoint or method not in (None, "kanoclip") or backbone not in (None, TINY):
        return ""
    return f"; {SHIPPED_WORTH}"


def _calibrate(detector: "Detector", normals: list[Path], false_alarms: float, batch_size: int) -> None:
    from kanoclip.predict.find import ImageFiles
    from kanoclip.types import progress

    files = ImageFiles(normals)
    detector.calibrate(
        progress((file.path for file in files), "calibrate", len(files), "images"), false_alarms, batch_size=batch_size
    )


def _show(out: Path) -> None:
    """Print the most anomalous images."""
    from kanoclip.predict.gallery import PAGE, worst

    typer.echo("   score  decision   image")
    for record in worst(out, WORST_SHOWN):
        name = (
            record["image"].encode("unicode_escape").decode() if not record["image"].isprintable() else record["image"]
        )
        typer.echo(f"  {record['score']:.4f}  {record['decision'] or '-':9}  {name}")
    typer.echo(f"page {out / PAGE}")


class _Skipped:
    """Files that are not images: the log names the first, skipped.txt lists all."""

    def __init__(self, out: Path):
        self._path = out / "skipped.txt"
        self._first: list[Path] = []
        self._count = 0

    def add(self, path: Path) -> None:
        """Record a file."""
        self._count += 1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w" if self._count == 1 else "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{path}\n")
        if len(self._first) < SKIPPED_SHOWN:
            self._first.append(path)

    def say(self) -> None:
        """Log the skipped files."""
        if self._count:
            names = ", ".join(path.name for path in self._first)
            more = f" and {self._count - len(self._first)} more" if self._count > len(self._first) else ""
            files = "1 file that is not an image" if self._count == 1 else f"{self._count} files that are not images"
            logger.info("skipped %s: %s%s", files, names, more)
