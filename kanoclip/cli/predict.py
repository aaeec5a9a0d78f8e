"""Commands for your own images: predict, and calibrate decisions on normal images."""

import os
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kanoclip.cli.options import BatchSize, Device, MethodSettings, input_file, parse_options
from kanoclip.files import whole
from kanoclip.types import InputError, logger

if TYPE_CHECKING:
    from kanoclip.predict.detector import Detector
    from kanoclip.predict.find import ImageFiles

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
FALSE_ALARMS = 0.01
FALSE_ALARMS_HELP = "Target share of normal images that are called anomalous."
AllThreads = Annotated[int | None, typer.Option(help="Number of CPU threads. Default: one per core.", min=1)]


def predict(
    images: Images,
    class_name: ClassName = "object",
    normals: Annotated[
        list[Path] | None, typer.Option(help="Normal images, from which the threshold is chosen. Can be repeated.")
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(help=f"{FALSE_ALARMS_HELP} Only with --normals. Default: {FALSE_ALARMS}."),
    ] = None,
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
    from kanoclip.predict.folder import Job, check_settings, predict_files
    from kanoclip.predict.gallery import failed, write_gallery
    from kanoclip.predict.maps_file import write_maps
    from kanoclip.predict.outputs import CARD, CSV

    if normals and card:
        raise InputError("--normals and --card: expected one of them, found both")
    if false_alarms is not None and not normals:
        raise InputError("--false-alarms: expected --normals with it, whose images set the threshold, found none")
    files = ImageFiles(images)
    detector = _detector(
        method, checkpoint, backbone, weights, image_size, settings, class_name, tiles, device, threads
    )
    if card:
        use_card(card, detector)
    if normals:
        _calibrate(detector, normals, FALSE_ALARMS if false_alarms is None else false_alarms, batch_size)
    logger.info("model: %s%s", detector.description, _worth(checkpoint, method, backbone))
    logger.info("decisions: %s", detector.threshold.words)
    workers = min(8, threads or os.cpu_count() or 1)
    job = Job(detector, files, out, Pictures(out, pictures, maps or ""), batch_size, workers)
    check_settings(job)  # before anything is written
    if normals:
        write_card(out / CARD, detector, date.today())
    _write_skipped(files, out)
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
        raise InputError(f"{len(broken)} of {len(files)} files could not be read; {out / CSV} says why")


def calibrate(
    images: Images,
    out: Annotated[Path, typer.Option(help="JSON file to write the threshold to.")],
    class_name: ClassName = "object",
    false_alarms: Annotated[float, typer.Option(help=FALSE_ALARMS_HELP)] = FALSE_ALARMS,
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
    from kanoclip.predict.gallery import worst
    from kanoclip.predict.outputs import PAGE

    typer.echo("   score  decision   image")
    for record in worst(out, WORST_SHOWN):
        name = (
            record["image"].encode("unicode_escape").decode() if not record["image"].isprintable() else record["image"]
        )
        typer.echo(f"  {record['score']:.4f}  {record['decision'] or '-':9}  {name}")
    typer.echo(f"page {out / PAGE}")


def _write_skipped(files: "ImageFiles", out: Path) -> None:
    """Log the first files that are not images, and list all in skipped.txt; without any, remove an earlier list."""
    from kanoclip.predict.outputs import SKIPPED

    if not files.other_count:
        (out / SKIPPED).unlink(missing_ok=True)
        return
    with whole(out / SKIPPED) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{path}\n" for path in files.others())
    names = ", ".join(path.name for path in islice(files.others(), SKIPPED_SHOWN))
    more = f" and {files.other_count - SKIPPED_SHOWN} more" if files.other_count > SKIPPED_SHOWN else ""
    one = files.other_count == 1
    what = "1 file that is not an image" if one else f"{files.other_count} files that are not images"
    logger.info("skipped %s: %s%s", what, names, more)
