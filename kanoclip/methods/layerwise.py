"""Maps per tap that are compared with text at pixel resolution, as in the released code of APRIL-GAN and MVFA-AD.

A softmax over two classes is the sigmoid of their log-odds, and bilinear upsampling is linear. So upsampling both
logits before the softmax equals upsampling the log-odds before the sigmoid.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kanoclip.losses import dice, focal
from kanoclip.methods.phases import TrainingOptions

LABEL_SMOOTHING = 1e-5  # of the focal loss, in the released code


class LayerwiseOptions(TrainingOptions):
    """Common options of methods with one map per tap."""

    temperature: float = Field(
        0.01, gt=0, description="divides the cosine similarities; the released code multiplies by 100"
    )
    map_resolution: Literal["grid", "image"] = Field(
        "grid",
        description="where the softmax is computed. grid: at the patches, and the evaluation upsamples the map, as for "
        "every method; image: as the released code, at the pixels after bilinear upsampling with aligned "
        "corners, which writes maps of the image's size",
    )


def mean_map(log_odds: Tensor, resolution: Literal["grid", "image"], image_size: int) -> Tensor:
    """Return the mean abnormal probability over the taps; the released code sums, which gives the same ranking.

    Args:
        log_odds: (B, K, h, w) of K taps.
        resolution: where log-odds become probabilities.
        image_size: S.

    Returns:
        (B, h, w) or (B, S, S) in 0..1.
    """
    if resolution == "image":
        log_odds = at_pixels(log_odds, image_size)
    return log_odds.sigmoid().mean(1)


def map_losses(log_odds: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Return the focal and the Dice loss of the taps' maps at pixel resolution, each summed over the taps.

    Args:
        log_odds: (B, K, h, w) of K taps.
        masks: (B, S, S) 0 or 1.
    """
    maps = at_pixels(log_odds, masks.shape[-1]).sigmoid().unbind(1)  # K x (B, S, S)
    return {
        "focal": torch.stack([focal(abnormal, masks, smoothing=LABEL_SMOOTHING) for abnormal in maps]).sum(),
        "dice": torch.stack([dice(abnormal, masks) for abnormal in maps]).sum(),
    }


def at_pixels(log_odds: Tensor, image_size: int) -> Tensor:
    """Upsample (B, K, h, w) to (B, K, S, S) bilinearly with aligned corners, as the released code does."""
    return F.interpolate(log_odds, (image_size, image_size), mode="bilinear", align_corners=True)
