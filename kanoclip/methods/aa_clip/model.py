"""AA-CLIP: first anomaly-aware text anchors are trained, then the image tower is adapted to them.

Learned: 12,582,912 parameters on ViT-L/14. Text phase: adapters after the first blocks of the text tower and a layer in
place of its projection, so that the normal and the abnormal anchor separate the patches of a frozen image tower and are
orthogonal. Image phase: adapters after the first blocks of the image tower, a segmentation head at each of four levels
and one detection head, against the frozen anchors. docs/methods/aa_clip.md has the formulas.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from kanoclip.augmentation import Change, Changes, ColourJitter, Geometric
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.losses import dice, focal
from kanoclip.methods.aa_clip.adapters import ImageAdapters, TextAnchors
from kanoclip.methods.aa_clip.options import AaClipOptions
from kanoclip.methods.aa_clip.released import translated
from kanoclip.methods.aa_clip.surgery import operated_patches
from kanoclip.methods.base import AnomalyOutput, Batch, ClassScores, Method, log_odds, per_class, register
from kanoclip.methods.layerwise import LABEL_SMOOTHING, at_pixels
from kanoclip.methods.phases import Phase, adam

FIRST = Tap("tokens", 1)  # the first adapter comes after the first block


@register("aa_clip")
class AaClip(Method[AaClipOptions]):
    """Adapters in both towers, trained in two phases: anomaly-aware text anchors, then patches."""

    trainable = True
    published = {
        "epochs": 20,
        "batch_size": 2,
        "milestones": (16_000, 32_000),
        "surgery": "value",
        "colour": 0.7,
        "map_resolution": "image",
        "normalisation": "class",
    }
    # the released code builds OpenAI's weights without their QuickGELU
    published_backbone = {
        "model": "ViT-L-14-336",
        "weights": "openai",
        "activation": "gelu",
        "image_size": 518,
        "vv_start": 6,
    }

    def __init__(self, backbone: Backbone, options: AaClipOptions, seed: int):
        super().__init__(backbone, options, seed)
        share, joint_width = options.residual, backbone.joint_width
        self.text = TextAnchors(backbone.text_width, joint_width, backbone.text_layers, share)
        self.image = ImageAdapters(backbone.width, joint_width, backbone.layers, backbone.quarters, share)
        self._anchors: dict[str, Tensor] = {}  # (2, C) by class name, cached while the text side is frozen

    @classmethod
    def reads(cls, options: AaClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the tokens after the first block; later blocks depend on the adapters."""
        return frozenset({FIRST})

    @classmethod
    def trains_on(cls, options: AaClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the taps of the phases that do not augment their images."""
        text = () if options.geometric else _text_taps(tower)
        image = () if options.geometric or options.colour else (FIRST,)
        return frozenset((*text, *image))

    @classmethod
    def marks(cls, options: AaClipOptions) -> frozenset[str]:
        """Return "transductive" if scores are normalised over the images of a class."""
        return frozenset({"transductive"}) if options.normalisation == "class" else frozenset()

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Return the parameters of the authors' checkpoints under our names; see `released.translated`.

        Args:
            files: the loaded text_adapter.pth and image_adapter_N.pth.

        Raises:
            InputError: they have another layout.
        """
        return translated(files)

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained adapters."""
        options = self.options
        anchors = self._resting_anchors(batch.class_names)  # (B, 2, C)
        patches, image = self.image(self.backbone.tower, batch.features[FIRST])
        odds = self._blurred(self._log_odds(patches, anchors).mean(1))  # (B, h, w)
        if options.map_resolution == "image":
            odds = at_pixels(odds[:, None], self.backbone.config.image_size)[:, 0]
        score = (torch.einsum("bc,bc->b", image, anchors[:, 1]) + 1) / 2
        if options.normalisation == "class":  # the rest of the score is left to `after_class`
            return AnomalyOutput((2 + options.temperature * odds) / 4, image_score=score)
        maps = odds.sigmoid()
        maximum = maps.amax((1, 2))
        return AnomalyOutput(maps, image_score=maximum if options.image_score == "maximum" else (maximum + score) / 2)

    def after_class(self, maps: NDArray[np.float32], scores: NDArray[np.float32]) -> ClassScores | None:
        """Scale the maps and the detection scores of a class to 0..1 by minimum and maximum, and combine them."""
        if self.options.normalisation == "image":
            return None
        scale, shift = _to_unit_range(maps)
        maximum = scale * maps.max(axis=(1, 2)) + shift
        if self.options.image_score == "maximum":
            return ClassScores(scale, shift, maximum)
        of_scores, offset = _to_unit_range(scores)
        return ClassScores(scale, shift, (maximum + of_scores * scores + offset) / 2)

    def text_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the map at the last level, and the squared similarity of the two anchors."""
        _, masks = batch.truth  # (B, S, S)
        before, last = _text_taps(self.backbone.shape)
        anchors = per_class(batch.class_names, lambda names: self.text(self.backbone, names))
        patches = operated_patches(self.backbone, batch.features[before], batch.features[last], self.options.surgery)
        similarity = torch.einsum("bc,bc->b", anchors[:, 0], anchors[:, 1]).mean()
        return {
            **_map_losses(self._log_odds(patches[:, None], anchors), masks),
            "orthogonality": self.options.orthogonality * similarity.square(),
        }

    def image_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the maps at all levels, summed, and the cross-entropy of the detection head."""
        labels, masks = batch.truth  # (B,), (B, S, S)
        anchors = self._resting_anchors(batch.class_names)
        patches, image = self.image(self.backbone.tower, batch.features[FIRST])
        detection = log_odds(image, anchors, temperature=1.0)
        return {
            **_map_losses(self._log_odds(patches, anchors), masks),
            "detection": F.binary_cross_entropy_with_logits(detection, labels),
        }

    def phases(self) -> list[Phase]:
        """Train the text side against a frozen image tower, then the image side against frozen anchors."""
        options = self.options
        geometric: tuple[Change, ...] = (Geometric(options.geometric),) if options.geometric else ()
        colour: tuple[Change, ...] = (ColourJitter(options.colour),) if options.colour else ()
        text = {"name": "text", "params": list(self.text.parameters()), "lr": options.text_learning_rate}
        image = {"name": "image", "params": list(self.image.parameters()), "lr": options.learning_rate}
        return [
            Phase(
                "text",
                self.text_losses,
                [text],
                options.text_epochs,
                options.text_batch_size,
                augment=Changes(geometric) if geometric else None,
                reads=frozenset(_text_taps(self.backbone.shape)),
            ),
            Phase(
                "image",
                self.image_losses,
                [image],
                options.epochs,
                options.batch_size,
                adam,
                options.image_schedule,
                Changes(geometric + colour) if geometric + colour else None,
                frozenset({FIRST}),
            ),
        ]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, and drop the cached anchors in training."""
        self._anchors = {}
        return super().train(mode)

    @torch.no_grad()
    def _resting_anchors(self, class_names: Sequence[str]) -> Tensor:
        """Return (B, 2, C) anchors, computed once per class."""
        for name in dict.fromkeys(class_names):
            if name not in self._anchors:
                self._anchors[name] = self.text(self.backbone, [name])[0]
        return torch.stack([self._anchors[name] for name in class_names])

    def _log_odds(self, patches: Tensor, anchors: Tensor) -> Tensor:
        """Compare patches (B, K, P, C) with anchors: (B, K, h, w) log-odds."""
        return log_odds(patches, anchors, self.options.temperature).unflatten(2, self.backbone.grid)

    def _blurred(self, maps: Tensor) -> Tensor:
        """Smooth (B, h, w) with a Gaussian cut off at three standard deviations, as in the released code."""
        sigma = self.options.grid_sigma
        radius = min(int(3 * sigma), min(self.backbone.grid) - 1)  # mirrored at the edges, so within the grid
        return gaussian_blur(maps[:, None], 2 * radius + 1, sigma)[:, 0] if radius else maps


def _text_taps(tower: TowerShape) -> tuple[Tap, Tap]:
    """Return the taps of the text phase: tokens before the V-V attention starts, and CLIP's own class token."""
    return Tap("tokens", tower.vv_start - 1), Tap("cls", tower.layers)


def _map_losses(odds: Tensor, masks: Tensor) -> Mapping[str, Tensor]:
    """Return the focal loss and the Dice losses of both classes at pixel resolution, each summed over the levels.

    Args:
        odds: (B, K, h, w) log-odds at K levels.
        masks: (B, S, S) 0 or 1.
    """
    maps = at_pixels(odds, masks.shape[-1]).sigmoid().unbind(1)  # K x (B, S, S)
    return {
        "focal": torch.stack([focal(abnormal, masks, smoothing=LABEL_SMOOTHING) for abnormal in maps]).sum(),
        "dice_abnormal": torch.stack([dice(abnormal, masks) for abnormal in maps]).sum(),
        "dice_normal": torch.stack([dice(1 - abnormal, 1 - masks) for abnormal in maps]).sum(),
    }


def _to_unit_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the factor and offset that map the minimum to 0 and the maximum to 1; equal values map to 0."""
    low, high = float(values.min()), float(values.max())
    scale = 1 / (high - low) if high > low else 1.0
    return scale, -low * scale
