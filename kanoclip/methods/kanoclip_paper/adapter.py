"""Conv-Adapter (KAnoCLIP, section 2.5, equation 11), which adapts the global image feature.

On a pooled vector, the depthwise convolution that the paper mentions is a scale per channel, which the down projection
absorbs, so equation 11 is complete. Optionally the convolution acts on the patches, as in Conv-Adapter (Chen et al.
2022).
"""

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHWISE_KERNEL = 3


class ConvAdapter(nn.Module):
    """I_hat = ReLU(LN(I_G) W_down) W_up.

    Args:
        width: C, of the joint space.
        bottleneck: b, the width in the middle.
        residual: add I_G, and start with W_up = 0, so that training starts from CLIP's own image feature.
        depthwise: add the mean over patches F of ReLU(DW(LN(F) W_down)) to the input of W_up; DW is a 3 x 3 depthwise
            convolution.
    """

    def __init__(self, width: int, bottleneck: int, residual: bool = False, depthwise: bool = False):
        super().__init__()
        self.residual = residual
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)
        self.depthwise: nn.Conv2d | None = None
        if depthwise:
            self.depthwise = nn.Conv2d(
                bottleneck, bottleneck, DEPTHWISE_KERNEL, padding=DEPTHWISE_KERNEL // 2, groups=bottleneck, bias=False
            )
        if residual:
            nn.init.zeros_(self.up.weight)

    def forward(self, image: Tensor, patches: Tensor | None = None) -> Tensor:
        """Adapt the global image feature.

        Args:
            image: (B, C) global feature.
            patches: (B, h, w, C) in the same space; only for the depthwise convolution.

        Returns:
            (B, C) unit vectors.
        """
        hidden = F.relu(self.down(self.norm(image)))  # (B, b)
        if self.depthwise is not None:
            assert patches is not None
            channels = self.down(self.norm(patches)).permute(0, 3, 1, 2)  # (B, b, h, w)
            hidden = hidden + F.relu(self.depthwise(channels)).mean((2, 3))
        adapted = self.up(hidden)  # (B, C)
        return F.normalize(image + adapted if self.residual else adapted, dim=-1)
