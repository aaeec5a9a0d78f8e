"""Learned tokens of a tower's first blocks: static ones plus dynamic ones computed from the image (AdaCLIP)."""

import torch
from torch import Tensor, nn

INITIAL_STD = 0.02  # as in the released code


class HybridTokens(nn.Module):
    """Static tokens, and dynamic ones computed from the image's feature (Cao et al. 2024, section 3.3).

    Args:
        depth: J, blocks with tokens of their own, counted from the first.
        length: N, tokens per block.
        width: width of their tower.
        context_width: C, of the image's feature.
    """

    def __init__(self, depth: int, length: int, width: int, context_width: int):
        super().__init__()
        self.length = length
        self.static = nn.Parameter(torch.randn(depth, length, width) * INITIAL_STD)  # (J, N, W)
        self.dynamic = nn.Linear(context_width, length * width)  # one layer per token, their weights one below another

    def forward(self, context: Tensor) -> Tensor:
        """Return the tokens of each block and image: (B, C) to (J, B, N, W); the dynamic part is the same per block."""
        return self.static[:, None] + self.dynamic(context).unflatten(1, (self.length, -1))
