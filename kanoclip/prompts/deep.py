"""Deep prompts: learned vectors that replace context tokens inside the text tower.

MaPLe's compound prompts (Khattak et al. 2023) as AnomalyCLIP uses them (Zhou et al. 2024, section 3.3): the first
context tokens are replaced at the input of some blocks.
"""

import torch
from torch import Tensor, nn

INITIAL_STD = 0.02  # as of the context


class DeepPrompts(nn.Module):
    """Vectors for the inputs of text blocks 2 ... depth; the first block gets the context itself.

    Every text shares them, normal or abnormal.

    Args:
        text_width: D, of a word embedding.
        depth: J, blocks counted from 1 with context tokens of their own; 1 learns nothing here.
        length: N, tokens replaced, those that follow the start of the text.
    """

    def __init__(self, text_width: int, depth: int, length: int):
        super().__init__()
        self.length = length
        self.layers = nn.Parameter(torch.randn(depth - 1, length, text_width) * INITIAL_STD)  # (J - 1, N, D)

    def forward(self, block: int, x: Tensor) -> Tensor:
        """Replace tokens 1 ... N before blocks 2 ... J.

        Args:
            block: counted from 1.
            x: (T, L, D) its input, the start of the text first.

        Returns:
            (T, L, D).
        """
        if not 2 <= block <= len(self.layers) + 1:
            return x
        learned = self.layers[block - 2].expand(len(x), -1, -1)
        return torch.cat([x[:, :1], learned, x[:, 1 + self.length :]], dim=1)
