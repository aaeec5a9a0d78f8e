"""The training-free last attention of SC-CLIP (Bai et al., 2024, arXiv 2411.15869), as a kind of tap.

In CLIP's deep blocks some patch tokens are outliers to which all others attend, and patches no longer encode which of
them belong together, as in the middle blocks. SC-CLIP replaces the outliers, averages patches over those that are
similar in a middle block, and mixes the values of the last block by the same similarities. Written from the paper's
description; docs/methods/sc_clip.md has the formulas and our interpretation.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from kanoclip.backbones.attention import mix, similarity_weights
from kanoclip.backbones.taps import Tap, image_tap
from kanoclip.backbones.tower import Tower
from kanoclip.types import InputError

NEIGHBOURS = 30  # of the local outlier factor
CONTAMINATION = 0.05  # share of patches that are outliers
SIMILAR = 0.4  # smallest cosine similarity of patches that are averaged
SHARPNESS = 3.0  # factor of the similarities in the last attention
CLASS_SHARE = 0.3  # share of the class token in every patch


@image_tap("calibrated")
def calibrated(tower: Tower, pixels: Tensor, at: int) -> Tensor:
    """Return the class token of the residual stream, and SC-CLIP's patch tokens.

    Args:
        tower: CLIP's image tower.
        pixels: (B, 3, S, S), normalised.
        at: the middle block whose similarities are used; 8 of 12 in the released code.

    Returns:
        (B, 1 + P, W).

    Raises:
        InputError: there is no such block, or the tower has registers.
    """
    last = tower.layers
    if at > last or tower.prefix > 1:
        raise InputError(
            f"tap {Tap('calibrated', at, tower.name)}: expected one of {last} blocks, and a tower without registers"
        )
    levels = range(max(1, round(last / 4)), round(3 * last / 4) + 1)  # 3 to 9 of 12
    taps = {block: Tap("tokens", block, tower.name) for block in {*levels, at, last - 1, last}}
    found = tower.run(tower.embed(pixels), watch=list(taps.values()))
    guide = F.normalize(found[taps[at]][:, 1:].float(), dim=-1)  # (B, P, W)
    x = found[taps[last - 1]]
    patches = aggregate(without_outliers(x[:, 1:], tower.grid), guide)
    deep = torch.cat([x[:, :1], patches], dim=1)
    weights = similarity_weights(guide, SHARPNESS, offset=1.0)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        alike = torch.cat([v[:, :, :1], mix(weights, v[:, :, 1:])], dim=2)  # the class token's row is not used
        return (F.scaled_dot_product_attention(k, k, v) + alike) / 2

    several = reduce(torch.add, [found[taps[block]] for block in levels])
    local = tower.attend(last, deep, attention) + tower.attend(last, several, attention)
    return torch.cat([found[taps[last]][:, :1], local[:, 1:] + CLASS_SHARE * x[:, :1]], dim=1)


def without_outliers(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Replace outliers by the mean of their neighbours that are not outliers, or keep those without such neighbours.

    Args:
        patches: (B, P, W), row-major.
        grid: (h, w), P = h w.
    """
    outlier = is_outlier(patches)[..., None]  # (B, P, 1)
    normal = (~outlier).to(patches.dtype)
    around = patches.new_ones(1, 1, 3, 3)
    around[..., 1, 1] = 0

    def over_neighbours(values: Tensor) -> Tensor:
        maps = values.transpose(1, 2).flatten(0, 1).unflatten(1, grid)[:, None]  # (B W, 1, h, w)
        return F.conv2d(maps, around, padding=1).view(values.shape[0], -1, patches.shape[1]).transpose(1, 2)

    count = over_neighbours(normal)  # (B, P, 1)
    mean = over_neighbours(patches * normal) / count.clamp(min=1)
    return torch.where(outlier & (count > 0), mean, patches)


def is_outlier(patches: Tensor) -> Tensor:
    """Return the patches (B, P) bool with the highest local outlier factors of their image (Breunig et al. 2000).

    Equals scikit-learn's `LocalOutlierFactor(n_neighbors=30, contamination=0.05)` on each image.

    Args:
        patches: (B, P, W).
    """
    if patches.shape[1] == 1:
        return torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    distances = _distances(patches.float())
    itself = torch.eye(patches.shape[1], dtype=torch.bool, device=patches.device)
    distances = distances.masked_fill(itself, float("inf"))
    near, number = distances.topk(min(NEIGHBOURS, patches.shape[1] - 1), largest=False)  # (B, P, k)
    radius = near[..., -1]  # (B, P)
    reach = torch.maximum(near, _of(radius, number))
    density = 1 / (reach.mean(-1) + 1e-10)
    factor = _of(density, number).mean(-1) / density
    return factor > factor.quantile(1 - CONTAMINATION, dim=1, keepdim=True)


def aggregate(patches: Tensor, guide: Tensor) -> Tensor:
    """Average each patch with those whose guide vectors are similar, weighted by similarity.

    Args:
        patches: (B, P, W).
        guide: (B, P, C) unit vectors.
    """
    similarity = guide @ guide.transpose(1, 2)
    weights = similarity * (similarity >= SIMILAR)
    return (weights / weights.sum(-1, keepdim=True)).to(patches.dtype) @ patches


def _distances(patches: Tensor) -> Tensor:
    """Return the Euclidean distances between the patches of each image: (B, P, W) to (B, P, P)."""
    if not torch.compiler.is_exporting():
        return torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist")
    exact = patches.double()  # ONNX has no cdist
    squares = exact.square().sum(-1)
    products = exact @ exact.transpose(1, 2)
    return (squares[:, :, None] + squares[:, None] - 2 * products).clamp(min=0).sqrt().float()


def _of(values: Tensor, number: Tensor) -> Tensor:
    """Return values (B, P) of the patches with these numbers: (B, P, k)."""
    return values.gather(1, number.flatten(1)).view_as(number)
