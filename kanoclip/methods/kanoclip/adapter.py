"""Conv-Adapter (KAnoCLIP, section 2.5, equation 11): adapts the global image feature.

On a pooled vector the depthwise convolution of the text is a scale a channel, which the down projection absorbs:
equation 11 is exact.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvAdapter(nn.Module):
    """I_hat = ReLU(LN(I_G) W_down) W_up.

    Args:
        width: C, of the joint space.
        bottleneck: width in the middle.
    """

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C) to (B, C) unit vectors."""
        return F.normalize(self.up(F.relu(self.down(self.norm(image)))), dim=-1)
