"""The stem of kanoclip-tiny: features of a convolutional network, frozen, that are added to the patch embeddings.

The tower itself is too small to learn from a few thousand photographs what ImageNet's 1.3 million show. As in hybrid
ViTs, convolutions see the image first: the first eleven blocks of EfficientNet-Lite0 (Tan and Le 2019; depthwise
convolutions and ReLU6, no squeeze-and-excitation). With their features f, read at three strides,

    token = conv1(pixels) + W_2 GELU(W_1 (f - mean) / deviation + b_1) + b_2
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.stem_shape import FIRST, HIDDEN, READ, STAGES, WITH_STEM, cells, feature_channels, widened

CENTRE, SCALE = 127 / 255, 128 / 255  # the network was trained on (RGB - centre) / scale, RGB in 0..1


def convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution from (B, C, h, w) to (B, C', h / stride, w / stride) with TensorFlow's padding.

    With stride 2 TensorFlow pads one pixel more on the right and at the bottom. A kernel that is one pixel wider, with
    zeros in its first row and column, gives the same with equal padding on all sides, and needs no padded copy.
    """
    return nn.Conv2d(channels, out, widened(kernel, stride), stride, kernel // 2, groups=groups)


class InvertedBottleneck(nn.Module):
    """A block of MobileNetV2 (Sandler et al. 2018) whose batch norms are folded into the convolutions."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = convolution(channels, inner, 1) if expansion > 1 else None
        self.depthwise = convolution(inner, inner, kernel, stride, inner)
        self.reduce = convolution(inner, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, h, w) to (B, C', h / stride, w / stride)."""
        inner = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        out = self.reduce(F.relu6(self.depthwise(inner), inplace=True))
        return x + out if self.residual else out


class Convolutions(nn.Module):
    """The first convolution and the first eleven blocks of EfficientNet-Lite0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = convolution(3, FIRST, 3, 2)
        self.blocks = nn.ModuleList()
        channels = FIRST
        for out, count, kernel, stride, expansion in STAGES:
            for number in range(count):
                self.blocks.append(InvertedBottleneck(channels, out, kernel, 1 if number else stride, expansion))
                channels = out

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Return the outputs of the blocks in READ: RGB (B, 3, S, S) in 0..1 to (B, C, S / stride, S / stride) each."""
        x = ((rgb - CENTRE) / SCALE).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.first(x), inplace=True)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in READ:
                found.append(x)
        return found


class Stem(nn.Module):
    """Takes the place of a ViT's `conv1` and adds features of the frozen network to its patch embeddings.

    Args:
        conv1: the patch embedding, (B, 3, S, S) normalised pixels to (B, W, S / patch, S / patch).
        mean: mean of the three channels, subtracted from RGB in 0..1 to normalise pixels.
        std: standard deviation of the three channels, by which RGB was then divided.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, conv1: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.patches, self.pixel_mean, self.pixel_std = conv1, tuple(mean), tuple(std)
        self.network = Convolutions().requires_grad_(False)
        channels = feature_channels(conv1.kernel_size[0])
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.hidden, self.out = nn.Conv2d(channels, HIDDEN, 1), nn.Conv2d(HIDDEN, conv1.out_channels, 1)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the network's features of every patch: (B, 3, S, S) normalised pixels to (B, channels, h, w).

        The cells of a finer stride become channels of their patch; coarser strides are interpolated.
        """
        mean, std = (
            torch.tensor(three, device=pixels.device).view(3, 1, 1) for three in (self.pixel_mean, self.pixel_std)
        )
        patch = self.patches.kernel_size[0]
        grid, found = pixels.shape[-1] // patch, []
        rgb = (pixels * std + mean)[:, :, : grid * patch, : grid * patch]  # without partial patches
        for x, (_, stride) in zip(self.network(rgb), READ.values(), strict=True):
            if stride < patch:
                x = F.pixel_unshuffle(x.contiguous(), cells(patch, stride))
            elif stride > patch:
                x = F.interpolate(x, (grid, grid), mode="bilinear")
            found.append(x)
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def measure(self, pixels: Tensor) -> None:
        """Set mean and deviation of every channel from normalised pixels (B, 3, S, S)."""
        deviation, mean = torch.std_mean(self.features(pixels), (0, 2, 3))
        self.mean.copy_(mean)
        self.deviation.copy_(deviation + 1e-3)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed normalised pixels (B, 3, S, S) as tokens (B, W, h, w)."""
        features = (self.features(pixels) - self.mean[:, None, None]) / self.deviation[:, None, None]
        return self.patches(pixels) + self.out(F.gelu(self.hidden(features)))


def add_stem(clip: Any, model: str) -> Any:
    """Put a stem before the image tower of an open_clip model that has one, in place, and return the model."""
    if model in WITH_STEM:
        visual = clip.visual
        visual.conv1 = Stem(visual.conv1, visual.image_mean, visual.image_std)
    return clip
