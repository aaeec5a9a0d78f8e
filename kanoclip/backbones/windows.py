"""Window embeddings: what CLIP says of a window when it sees nothing else (WinCLIP, Jeong et al. 2023, section 4.2).

The class token and the tokens of a window's patches, with the positions they have in the whole image, go through the
tower alone; the projected class token is the window's embedding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kanoclip.types import InputError

TOKENS_AT_ONCE = 65_536  # of all windows in a forward; bounds memory, changes nothing else


def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """The patches of every window of side x side patches, one patch apart.

    Args:
        grid: (h, w) patches of the image.
        side: at most the smaller side of the grid.

    Returns:
        (n, side²) numbers of patches, n = (h - side + 1) (w - side + 1), both in row-major order.

    Raises:
        InputError: the window does not fit.
    """
    if side > min(grid):
        raise InputError(
            f"windows of {side} x {side} patches do not fit in an image of {grid[0]} x {grid[1]} patches; "
            "choose smaller windows or a larger image_size"
        )
    numbers = torch.arange(grid[0] * grid[1]).view(grid)
    windows = numbers.unfold(0, side, 1).unfold(1, side, 1)  # (h', w', side, side)
    return windows.reshape(-1, side * side)


def window_embeddings(
    tokens: Tensor, grid: tuple[int, int], side: int, class_embedding: Callable[[Tensor], Tensor]
) -> Tensor:
    """Embed all windows of some images.

    Args:
        tokens: (B, 1 + P, W) input of the first block, the class token first, positions added.
        grid: (h, w), P = h w.
        side: of the windows in patches.
        class_embedding: (N, L, W) inputs of the first block to (N, C) embeddings.

    Returns:
        (B, n, C).
    """
    batch, _, width = tokens.shape
    patches = window_patches(grid, side).to(tokens.device)  # (n, side²)
    chosen = torch.cat([patches.new_zeros(len(patches), 1), patches + 1], dim=1)  # (n, 1 + side²)
    sequences = tokens[:, chosen].reshape(-1, chosen.shape[1], width)  # (B n, 1 + side², W)
    at_once = max(1, TOKENS_AT_ONCE // chosen.shape[1])
    return torch.cat([class_embedding(part) for part in sequences.split(at_once)]).view(batch, len(patches), -1)
