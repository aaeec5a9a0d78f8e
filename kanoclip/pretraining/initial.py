"""Initial weights that make a short training work: ImageNet's stem, whitened patches, mimetic attention."""

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.pretraining.imagenet import fill, load_efficientnet

POSITION_SHARE = 0.3  # scale of the entries of position vectors; patch entries have a standard deviation of 1


@torch.no_grad()
def initialise(backbone: Backbone, images: NDArray[np.uint8], seed: int) -> None:
    """Set the starting weights of the image tower, in place.

    Args:
        backbone: at any image size.
        images: (B, S, S, 3) training images from which the patch statistics are computed.
        seed: seed of the random parts.

    Raises:
        InputError: the weights of the stem are not installed.
    """
    visual = backbone.clip.visual
    stem, rgb = visual.conv1, pixels(images).to(backbone.device)
    fill(stem.network, load_efficientnet())
    stem.measure(rgb)
    nn.init.zeros_(stem.out.weight)
    nn.init.zeros_(stem.out.bias)
    random = torch.Generator().manual_seed(seed)
    patch = visual.patch_size[0]
    stem.patches.weight.copy_(whitening_filters(rgb, patch, backbone.width))
    visual.positional_embedding[0].zero_()
    visual.positional_embedding[1:] = POSITION_SHARE * sincos_positions(visual.grid_size[0], backbone.width)
    for block in backbone.blocks:
        _mimetic_attention(block.attn, random)


def pixels(images: NDArray[np.uint8]) -> Tensor:
    """Convert images (B, S, S, 3) in 0..255 to the tower's input (B, 3, S, S), normalised with CLIP's constants."""
    return normalised(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float())


def normalised(images: Tensor) -> Tensor:
    """Normalise images (B, 3, S, S) in 0..255 with CLIP's constants."""
    mean, deviation = (
        torch.tensor(values, device=images.device).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    return (images / 255 - mean) / deviation


def whitening_filters(images: Tensor, patch: int, width: int) -> Tensor:
    """Return the leading principal directions of patches, scaled so that each response has about unit variance.

    Args:
        images: (B, 3, S, S), normalised.
        patch: pixels per side.
        width: number of filters, at most 3 patch².

    Returns:
        (width, 3, patch, patch).
    """
    patches = nn.functional.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    covariance = torch.cov(patches.T)
    variance, directions = torch.linalg.eigh(covariance)
    leading = directions[:, -width:] / (variance[-width:] + 1e-2).sqrt()
    return leading.T.reshape(width, 3, patch, patch)


def sincos_positions(grid: int, width: int) -> Tensor:
    """Return the 2-D sine-cosine positions (grid², width) of a square grid, row-major, entries -1..1."""
    frequencies = torch.pi * 2 ** torch.linspace(-1, np.log2(grid) - 1, width // 4)
    centres = (torch.arange(grid) + 0.5) / grid
    angles = centres[:, None] * frequencies  # (grid, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)


def _mimetic_attention(attention: nn.MultiheadAttention, random: torch.Generator) -> None:
    """Set attention weights close to those of trained ViTs, in place (Trockman and Kolter 2023).

    In every head W_q W_kᵀ is about 0.7 times the identity plus noise, so that similar tokens attend to each other, and
    the product of the value and output weights is about -0.4 times the identity plus noise.
    """
    width, heads = attention.embed_dim, attention.num_heads
    size = width // heads
    weight = attention.in_proj_weight

    def noise() -> Tensor:
        return torch.randn(width, width, generator=random) / width**0.5

    for head in range(heads):
        u, s, vh = torch.linalg.svd(0.7 * noise() + 0.7 * torch.eye(width))
        rows = slice(head * size, (head + 1) * size)
        weight[rows] = (u[:, :size] * s[:size].sqrt()).T
        weight[width:][rows] = s[:size].sqrt()[:, None] * vh[:size]
    u, s, vh = torch.linalg.svd(0.4 * noise() - 0.4 * torch.eye(width))
    weight[2 * width :] = s.sqrt()[:, None] * vh
    attention.out_proj.weight.copy_(u * s.sqrt())
