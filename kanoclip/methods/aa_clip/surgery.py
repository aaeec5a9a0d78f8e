"""The frozen image tower of the text phase: V-V attention in the main stream, with the MLPs kept."""

import torch
from torch import Tensor

from kanoclip.backbones.attention import value_value
from kanoclip.backbones.clip import Backbone

ATTENTIONS = {"value_value": value_value, "value": lambda q, k, v: v}


@torch.no_grad()
def operated_patches(backbone: Backbone, x: Tensor, class_tokens: Tensor, attention: str) -> Tensor:
    """Return the patch features that the text anchors are trained against.

    Args:
        backbone: provides the image tower.
        x: (B, 1 + P, W) tokens before block vv_start.
        class_tokens: (B, W) after the last block of the unmodified tower.
        attention: a key of ATTENTIONS.

    Returns:
        (B, P, C): the unit vector of each patch plus the unit vector of the image's class token, not normalised again.
    """
    tower = backbone.tower
    with tower.autocast():
        for number in range(backbone.shape.vv_start, tower.layers + 1):
            x = x + tower.attend(number, x, ATTENTIONS[attention])
            x = x + tower.mlp(number, x)
    patches = backbone.project(x[:, 1:].float())
    return patches + backbone.project(class_tokens)[:, None]
