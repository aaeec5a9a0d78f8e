"""What methods read of an image, and what the image tower says about it."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Streams:
    """What is wanted of an image.

    Attributes:
        original: blocks, counted from 1, after which the tokens of the original stream are wanted.
        local: blocks after which the tokens of the V-V stream are wanted.
        windows: sides, in patches, of the windows of which embeddings are wanted (WinCLIP).
        pixels: sides, in pixels, at which the image itself is wanted.
    """

    original: tuple[int, ...] = ()
    local: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    pixels: tuple[int, ...] = ()

    def union(self, other: "Streams") -> "Streams":
        """Everything that either wants."""
        return Streams(**{name: tuple(sorted({*wanted, *getattr(other, name)})) for name, wanted in vars(self).items()})

    def covers(self, other: "Streams") -> bool:
        """Whether everything the other wants is here."""
        return self.union(other) == self.union(self)


@dataclass(frozen=True)
class ImageFeatures:
    """What is known of B images; P patches in row-major order, W the width of the tower, C of the joint space.

    Attributes:
        cls: (B, W) class token of the original stream after the last block, before ln_post.
        original: block: (B, 1 + P, W) residual-stream tokens of the original stream, the class token first.
        local: block: (B, 1 + P, W) the same of the V-V stream.
        windows: side: (B, n, C) unit vectors of the joint space, windows in row-major order.
        pixels: side: (B, 3, side, side) RGB in 0..1.
    """

    cls: Tensor
    original: dict[int, Tensor]
    local: dict[int, Tensor]
    windows: dict[int, Tensor]
    pixels: dict[int, Tensor]

    def map(self, change: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        """The same with every tensor changed."""
        groups = {
            name: {key: change(tensor) for key, tensor in group.items()}
            for name, group in ((field.name, getattr(self, field.name)) for field in fields(Streams))
        }
        return ImageFeatures(change(self.cls), **groups)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "ImageFeatures":
        """The same on a device, in a floating-point type."""
        return self.map(lambda tensor: tensor.to(device, dtype))
