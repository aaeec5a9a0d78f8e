"""Choose and load a model: the shipped one, a checkpoint, or a training-free method on any CLIP model."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.descriptions import describe, model_names
from kanoclip.checkpoints import load_method, read_record
from kanoclip.config import BackboneConfig, parse
from kanoclip.devices import choose_device
from kanoclip.files import sha256
from kanoclip.methods import Method, method_class, method_names
from kanoclip.predict.decisions import guessed
from kanoclip.predict.detector import Detector
from kanoclip.predict.guesses import guess_of
from kanoclip.rows import SHIPPED
from kanoclip.types import InputError

SHIPPED_WORTH = (
    "a small model that has seen synthetic defects only: for trying out, not for decisions (docs/predict.md)"
)
DEFAULT, TINY = "kanoclip", "kanoclip-tiny"
TRAINING_FREE = "winclip"  # the method used if only a backbone is given


@dataclass(frozen=True)
class Choice:
    """The specification of a model.

    Attributes:
        method: the registered method.
        checkpoint: checkpoint of a trained method.
        backbone: the configuration of the CLIP model.
    """

    method: str
    checkpoint: Path | None
    backbone: BackboneConfig


def load(
    model: str | Path = DEFAULT,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    class_name: str = "object",
    tile: int | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Detector:
    """Build a detector.

    Args:
        model: "kanoclip", which is shipped; the path of a checkpoint; a training-free method such as "winclip"; or a
            CLIP model such as "ViT-L-14-336-quickgelu", which is used with winclip.
        backbone: the CLIP model of a training-free method; default: kanoclip-tiny, which is shipped.
        weights: an open_clip tag or a file; default: openai if the model has it. With a checkpoint: the file of the
            backbone that it was trained on, if that has moved.
        image_size: pixels per side; default: what the model was trained with.
        class_name: what the images show, for the prompts.
        tile: side in pixels of the tiles that larger images are cut into, so that small defects stay visible; by
            default every image is squashed to a square.
        options: options of a training-free method.
        device: cpu, cuda, cuda:1 ...; auto uses a GPU if there is one.
        threads: CPU threads; None keeps torch's default.

    Raises:
        InputError: there is no such model, method or file; or a trainable method has no checkpoint.

    >>> detector = load("kanoclip", class_name="metal plate")
    >>> detector.method_name, detector.class_name
    ('kanoclip', 'metal plate')
    """
    choice = choose(str(model), backbone, weights, image_size)
    where = choose_device(device, threads)
    with _without_warnings():
        tower = load_backbone(choice.backbone, where)
    method = _build(choice, tower, dict(options or {}))
    if "transductive" in method.marks(method.options):
        raise InputError(
            f"method {choice.method}: with these options it scores an image with the help of all others, so none "
            "can be scored alone; take other options or another method"
        )
    record = read_record(choice.checkpoint) if choice.checkpoint else None
    checksum = sha256(choice.checkpoint) if choice.checkpoint else ""
    detector = Detector(method, choice.method, class_name, record, checksum, tile)
    if record is None:
        detector.threshold = guessed(guess_of(method, choice.method))
    return detector


def choose(model: str, backbone: str | None, weights: str | None, image_size: int | None) -> Choice:
    """Resolve the arguments of `load` without loading the model; see there for arguments and errors."""
    if model == DEFAULT and backbone in (None, TINY) and weights is None and image_size is None:
        return _trained(SHIPPED, None, None, None)
    if Path(model).suffix == ".safetensors" or Path(model).is_file():
        return _trained(Path(model), backbone, weights, image_size)
    if model in model_names():
        model, backbone = TRAINING_FREE, model
    if model == DEFAULT:
        raise InputError(
            f"method {DEFAULT} is shipped for {TINY} only; on {backbone or 'other weights'} it needs a checkpoint "
            f"(kanoclip train), or take a training-free method, such as {TRAINING_FREE}"
        )
    if model not in method_names():
        raise InputError(
            f"model '{model}': no such checkpoint, method ({', '.join(method_names())}) or CLIP model "
            "(docs/backbones.md)"
        )
    kind = method_class(model)
    if kind.trainable:
        raise InputError(f"method {model} is trained; give a checkpoint (kanoclip train makes one)")
    if kind.sees_truth:
        raise InputError(f"method {model} looks at the labels, and there are none; take another")
    return Choice(model, None, _backbone(backbone or TINY, weights, image_size))


def _trained(path: Path, backbone: str | None, weights: str | None, image_size: int | None) -> Choice:
    record = read_record(path)
    config = parse(BackboneConfig, record["config"], str(path))
    for name, given, found in (("backbone", backbone, config.model), ("image size", image_size, config.image_size)):
        if given is not None and given != found:
            raise InputError(f"{path}: trained with the {name} {found}, found {given}; leave it out")
    if weights is not None:
        config = config.model_copy(update={"weights": weights})
    return Choice(record["method"], path, config)


def _backbone(model: str, weights: str | None, image_size: int | None) -> BackboneConfig:
    """Return the configuration of a CLIP model with the settings it was trained with."""
    size = image_size or describe(model).image_size
    return BackboneConfig(
        model=model, weights=weights or ("embedded" if model == TINY else _tag(model)), image_size=size
    )


def _tag(model: str) -> str:
    """Return the tag of OpenAI's weights if a model has them, otherwise the first tag of open_clip."""
    import open_clip

    known = open_clip.list_pretrained_tags_by_model(model)
    if not known:
        raise InputError(f"backbone {model}: open_clip names no weights for it; give a file (--weights)")
    return "openai" if "openai" in known else known[0]


def _build(choice: Choice, backbone: Backbone, options: dict[str, Any]) -> Method[Any]:
    if choice.checkpoint is not None:
        if options:
            raise InputError(f"{choice.checkpoint}: a checkpoint has its options; found others: {', '.join(options)}")
        return load_method(choice.checkpoint, backbone, choice.method)
    kind = method_class(choice.method)
    return kind(backbone, parse(kind.Options, options, choice.method), 0).to(backbone.device).eval()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence open_clip's warning about random weights, which come before ours are loaded."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in [one for one in root.handlers if one not in handlers]:  # logging.warning adds one
            root.removeHandler(handler)
