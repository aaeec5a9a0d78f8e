"""Window embeddings: CLIP's embedding of a window in isolation (WinCLIP, Jeong et al. 2023, section 4.2).

Only the class token and the tokens of a window's patches, with their positions in the whole image, go through the
tower; the projected class token is the window's embedding.
"""

import torch
from torch import Tensor

from kanoclip.backbones.taps import Tap, image_tap
from kanoclip.backbones.tower import Tower
from kanoclip.types import InputError

TOKENS_AT_ONCE = {"cuda": 65_536, "cpu": 2_048}  # per forward pass: fills a GPU, fits the cache of a CPU core


def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """Return the patch numbers of every window of side x side patches, one patch apart.

    Args:
        grid: (h, w) patches of the image.
        side: at most the smaller side of the grid.

    Returns:
        (n, side²), n = (h - side + 1) (w - side + 1), both in row-major order.

    Raises:
        InputError: the window does not fit.

    >>> window_patches((2, 3), 2).tolist()
    [[0, 1, 3, 4], [1, 2, 4, 5]]
    """
    if side > min(grid):
        raise InputError(
            f"windows of {side} x {side} patches do not fit in an image of {grid[0]} x {grid[1]} patches; "
            "choose smaller windows or a larger image_size"
        )
    numbers = torch.arange(grid[0] * grid[1]).view(grid)
    windows = numbers.unfold(0, side, 1).unfold(1, side, 1)  # (h', w', side, side)
    return windows.reshape(-1, side * side)


@image_tap("windows")
def window_embeddings(tower: Tower, pixels: Tensor, side: int) -> Tensor:
    """Embed all windows of some images.

    Args:
        tower: CLIP's image tower.
        pixels: (B, 3, S, S), normalised.
        side: side of the windows in patches.

    Returns:
        (B, n, C) unit vectors, windows in row-major order.

    Raises:
        InputError: the windows do not fit, or the blocks need the whole grid.
    """
    if tower.rotary:
        raise InputError(
            f"tap {Tap('windows', side, tower.name)}: the blocks of this tower rotate by position and cannot see a "
            "window alone; choose a model without rotary positions, such as a CLIP of OpenAI or LAION"
        )
    x = tower.embed(pixels)  # (B, prefix + P, W)
    patches = window_patches(tower.grid, side).to(x.device)  # (n, side²)
    before = torch.arange(tower.prefix, device=x.device).expand(len(patches), -1)
    chosen = torch.cat([before, patches + tower.prefix], dim=1)  # (n, prefix + side²)
    sequences = x[:, chosen].reshape(-1, chosen.shape[1], x.shape[2])  # (B n, prefix + side², W)
    last = Tap("cls", tower.layers, tower.name)
    at_once = max(1, TOKENS_AT_ONCE.get(x.device.type, 65_536) // chosen.shape[1])
    # an exported graph must not depend on the number of parts
    parts = (sequences,) if torch.compiler.is_exporting() else sequences.split(at_once)
    embedded = [tower.project(tower.run(part, watch=[last])[last]) for part in parts]
    return torch.cat(embedded).view(x.shape[0], len(patches), -1)
