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
        residual: add I_G, and start with W_up = 0, so that training begins with CLIP's own image feature.
    """

    def __init__(self, width: int, bottleneck: int, residual: bool = False):
        super().__init__()
        self.residual = residual
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)
        if residual:
            nn.init.zeros_(self.up.weight)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C) to (B, C) unit vectors."""
        adapted = self.up(F.relu(self.down(self.norm(image))))
        return F.normalize(image + adapted if self.residual else adapted, dim=-1)
