"""Export a method for one class to ONNX, from the image to the final map and score, to run without torch.

The text tower is not in the file: the text vectors of the class are constants. All numbers are fp32; unlike in a
cache, features are not rounded to fp16.
"""

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kanoclip import __version__
from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.checkpoints import load_method, read_record
from kanoclip.config import BackboneConfig, parse
from kanoclip.files import whole
from kanoclip.maps import final_map
from kanoclip.methods import Batch, Method, method_class, method_names
from kanoclip.types import InputError, logger

INPUT, OUTPUTS = "images", ("maps", "scores")
TOLERANCE = 1e-4  # largest absolute difference to PyTorch's outputs
OPSET = 20  # the first with the grid sampling of deformable attention


class Detector(nn.Module):
    """A method for one class, from pixels to final map and score.

    Args:
        method: ready to score, on the CPU.
        class_name: for the prompts.
    """

    def __init__(self, method: Method[Any], class_name: str):
        super().__init__()
        self.method, self.class_name = method.eval(), class_name
        backbone = method.backbone
        self.size = backbone.config.image_size
        self.taps = sorted(type(method).reads(method.options, backbone.shape))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score images.

        Args:
            images: (B, S, S, 3) uint8 RGB, squashed to the image size; normalised inside.

        Returns:
            (B, S, S) final maps and (B,) scores, higher is more anomalous.
        """
        backbone = self.method.backbone
        features = backbone.encode_images(backbone.normalise(images), self.taps)
        # one name for all images: its text vectors (1, 2, C) are broadcast to any batch size
        output = self.method(Batch([""], [self.class_name], features))
        return final_map(output.map, self.size, self.method.sigma), output.image_score


@dataclass(frozen=True)
class Source:
    """The method to export: a checkpoint, or the name and options of a training-free method."""

    checkpoint: Path | None = None
    method: str | None = None
    options: dict[str, Any] | None = None

    def build(self, backbone_options: dict[str, Any] | None) -> Method[Any]:
        """Build the method on the CPU, by default on the backbone that its checkpoint was trained on.

        Raises:
            InputError: neither or both are given, the method needs a checkpoint, or options are given with one.
        """
        if (self.checkpoint is None) == (self.method is None):
            raise InputError("give --checkpoint, or --method with a method that needs none, one of the two")
        if self.checkpoint is not None:
            if self.options:
                raise InputError(
                    f"{self.checkpoint}: a checkpoint has its options; found others: {', '.join(self.options)}"
                )
            record = read_record(self.checkpoint)
            backbone = _backbone(record["config"] if backbone_options is None else backbone_options)
            return load_method(self.checkpoint, backbone, record["method"])
        assert self.method is not None
        kind = method_class(self.method)
        if kind.trainable:
            raise InputError(f"method {self.method} is trained: give its --checkpoint")
        options = parse(kind.Options, self.options or {}, f"options of {self.method}")
        return kind(_backbone(backbone_options or {}), options, 0)


def export(source: Source, class_name: str, out: Path, backbone_options: dict[str, Any] | None = None) -> None:
    """Write model.onnx, whole or not at all, after comparing its outputs with PyTorch's.

    Args:
        source: the method.
        class_name: the class for the prompts, as in "a photo of a {}".
        out: the file to write.
        backbone_options: keys of the backbone; None: those of the checkpoint, or the defaults.

    Raises:
        InputError: the method cannot be written as ONNX, or a package is missing.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        _library(package)
    if not class_name.strip():
        raise InputError("--class-name: expected the name of a class, found nothing")
    with torch.no_grad():
        detector = Detector(source.build(backbone_options), class_name)
        name = _name(detector.method)
        if not detector.taps:
            raise InputError(f"method {name} cannot be exported: it reads no image")
        if detector.method.not_exportable:
            raise InputError(f"method {name} cannot be exported: {detector.method.not_exportable}")
        with whole(out) as temporary:
            _write(detector, name, temporary)
            _check(detector, name, temporary)
    logger.info("%s: %s for '%s', %d pixels per side", out, name, class_name, detector.size)


def run_onnx(path: Path, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return maps (B, S, S) and scores (B,) of images (B, S, S, 3), computed by onnxruntime on the CPU."""
    session = _library("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    maps, scores = session.run(list(OUTPUTS), {INPUT: images})
    return maps, scores


def _write(detector: Detector, name: str, path: Path) -> None:
    example = torch.from_numpy(_noise(2, detector.size))
    detector(example)  # computes the text vectors, which are constants of the exported graph
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                detector,
                (example,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # e.g. an operator that the exporter does not support
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"method {name} cannot be exported: torch.onnx refuses it ({reason})") from error
    assert program is not None
    program.model.metadata_props.update(
        {"class_name": detector.class_name, "method": name, "image_size": str(detector.size), "kanoclip": __version__}
    )
    program.save(str(path), external_data=False)


def _check(detector: Detector, name: str, path: Path) -> None:
    """Refuse a file whose outputs differ from PyTorch's, for batches of one and of three."""
    for count in (1, 3):
        images = _noise(count, detector.size)
        expected = detector(torch.from_numpy(images))
        try:
            answer = run_onnx(path, images)
        except Exception as error:  # onnxruntime's errors have no common class
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"method {name} cannot be exported: onnxruntime refuses the file ({reason})") from error
        for found, wanted in zip(answer, expected, strict=True):
            difference = np.abs(found - wanted.numpy()).max() if found.shape == tuple(wanted.shape) else np.inf
            if not difference <= TOLERANCE:
                raise InputError(
                    f"method {name} cannot be exported: ONNX differs from PyTorch by {difference:.2g}, "
                    f"expected at most {TOLERANCE:g}"
                )


def _noise(count: int, size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _backbone(options: dict[str, Any]) -> Backbone:
    return load_backbone(parse(BackboneConfig, options, "backbone"))


def _name(method: Method[Any]) -> str:
    return next(name for name in method_names() if method_class(name) is type(method))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'export needs the package {name}; run: pip install "kanoclip[export]"') from error
