"""The base class of frozen image towers, with the only loop over blocks.

Encoding, live scoring, methods with adapters inside the tower and the training of the embedded backbone all use
`Tower.run`. Besides the residual stream x it computes the local streams that taps need. The V-V stream (CLIP Surgery,
Li et al. 2023, used in KAnoCLIP section 2.3, equations 4 to 8) starts as a copy of x before block `vv_start` and then
accumulates value-value attention, without the MLP:

    S_l = S_{l-1} + Proj_l(softmax(V_l V_l^T / sqrt(d)) V_l),    V_l = W_v ln_1(x_{l-1})
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.attention import self_self, value_value
from kanoclip.backbones.taps import IMAGE_TAPS, LOCAL_STREAMS, READOUTS, Features, Tap, local_stream, readout

Hook = Callable[[int, Tensor], Tensor]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


class Tower(nn.Module, ABC):
    """A frozen ViT. Each family of models is a subclass that implements the parts of a block.

    Attributes:
        name: as in `Tap.tower`.
        blocks: its blocks.
        layers: number of blocks.
        width: W of the residual stream.
        joint_width: C, the width of the output of `project`.
        grid: (h, w) patches of an image, P = h w.
        image_size: S, pixels per side.
        mean: mean of the three channels, subtracted from RGB in 0..1.
        std: standard deviation of the three channels, by which RGB is divided.
        prefix: tokens before the patches: the class token first, then registers, which taps leave out.
        rotary: whether blocks use rotary positions, so that they need the whole grid.
        vv_start: first block of the local streams, counted from 1.
        precision: the floating-point type in which blocks are computed.
    """

    name: str
    blocks: Any  # their classes have few types
    layers: int
    width: int
    joint_width: int
    grid: tuple[int, int]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    prefix: int = 1
    rotary: bool = False
    vv_start: int
    precision: torch.dtype = torch.float32

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the parameters."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first block: (B, 3, S, S) to (B, prefix + P, W), the class token first."""

    @abstractmethod
    def block(self, number: int, x: Tensor) -> Tensor:
        """Return the output of block `number`, counted from 1: (B, L, W) to the same shape."""

    @abstractmethod
    def attend(self, number: int, x: Tensor, attention: Attention) -> Tensor:
        """Return the residual update (B, L, W) of a block's attention with another attention function.

        Args:
            number: number of the block, counted from 1; its trained weights and layer scale are used.
            x: (B, L, W) input of the block.
            attention: (q, k, v), each (B, heads, L, d), to (B, heads, L, d).

        Returns:
            (B, L, W).
        """

    @abstractmethod
    def mlp(self, number: int, x: Tensor) -> Tensor:
        """Return the residual update (B, L, W) of a block's MLP.

        Args:
            number: number of the block, counted from 1.
            x: (B, L, W) residual stream after the block's attention.

        Returns:
            (B, L, W).
        """

    @abstractmethod
    def final_norm(self, tokens: Tensor) -> Tensor:
        """Return tokens of the residual stream, of any shape (..., W), after the final layer norm."""

    @abstractmethod
    def project(self, tokens: Tensor, norm: bool = True, unit: bool = True) -> Tensor:
        """Project tokens of the residual stream to the joint space: (..., W) to (..., C).

        Args:
            tokens: tokens of the residual stream.
            norm: apply the final layer norm first, as in the tower's training.
            unit: normalise the vectors to length 1.
        """

    def normalise(self, rgb: Tensor) -> Tensor:
        """Turn RGB in 0..1 of any size into the tower's input: (B, 3, h, w) to (B, 3, S, S)."""
        side = (self.image_size, self.image_size)
        if rgb.shape[-2:] != side:
            rgb = F.interpolate(rgb, side, mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = self._statistics(rgb)
        return (rgb - mean) / std

    def plain(self, pixels: Tensor) -> Tensor:
        """Undo the normalisation: (B, 3, S, S) to RGB in 0..1."""
        mean, std = self._statistics(pixels)
        return pixels * std + mean

    def without_registers(self, x: Tensor) -> Tensor:
        """Keep the class token and the patches: (B, prefix + P, W) to (B, 1 + P, W)."""
        return x if self.prefix == 1 else torch.cat([x[:, :1], x[:, self.prefix :]], dim=1)

    def run(
        self,
        x: Tensor,
        start: int = 0,
        stop: int | None = None,
        before_block: Hook | None = None,
        watch: Collection[Tap] = (),
    ) -> Features:
        """Run blocks `start` + 1 to `stop`, with gradients if they are on.

        Args:
            x: (B, L, W) residual stream after block `start`, registers included.
            start: number of blocks that have been run already.
            stop: the last block; default: the last one in `watch`.
            before_block: returns the input that a block gets instead, from the block's number and input. It is called
                once more after the last block, with the number `stop` + 1, so that adapters may follow any block.
            watch: the taps to return. A tap at block n is read after the call of `before_block` for block n + 1.

        Returns:
            The watched taps without registers, in the precision of the tower.

        Raises:
            ValueError: a watched tap lies outside the blocks that are run.
        """
        stop = max((tap.at for tap in watch), default=start) if stop is None else stop
        kinds = {tap.kind for tap in watch if tap.kind in LOCAL_STREAMS}
        last_use = {kind: max(tap.at for tap in watch if tap.kind == kind) for kind in kinds}
        if any(not start <= tap.at <= stop for tap in watch) or (kinds and start >= self.vv_start):
            raise ValueError(f"taps {sorted(map(str, watch))} cannot be read between blocks {start} and {stop}")
        found: Features = {}
        local: dict[str, Tensor] = {}
        with self.autocast():
            for number in range(start + 1, stop + 2):
                if before_block is not None:
                    x = before_block(number, x)
                done = number - 1
                for tap in (tap for tap in watch if tap.at == done):
                    tokens = self.without_registers(local.get(tap.kind, x))
                    found[tap] = READOUTS[tap.kind](tokens) if tap.kind in READOUTS else tokens
                if number > stop:
                    break
                if number >= self.vv_start:
                    for kind in (kind for kind in kinds if number <= last_use[kind]):
                        local[kind] = local.get(kind, x) + LOCAL_STREAMS[kind](self, number, x)
                x = self.block(number, x)
        return found

    def encode(self, pixels: Tensor, taps: Collection[Tap]) -> Features:
        """Compute the taps of whole images in one run of the blocks, and image taps separately.

        Args:
            pixels: (B, 3, S, S), normalised, on the device of the tower.
            taps: all of this tower.
        """
        of_image = [tap for tap in taps if tap.kind in IMAGE_TAPS]
        watch = [tap for tap in taps if tap.kind not in IMAGE_TAPS]
        found: Features = {}
        with self.autocast():
            if watch:
                found = self.run(self.embed(pixels), watch=watch)
            for tap in of_image:
                found[tap] = IMAGE_TAPS[tap.kind](self, pixels, tap.at)
        return found

    def autocast(self) -> AbstractContextManager[object]:
        """Return an autocast to the precision of the tower; in fp32 a no-op that keeps a caller's autocast."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(numbers, device=like.device).view(3, 1, 1) for numbers in (self.mean, self.std))
        return mean, std


@readout("tokens")
def tokens(x: Tensor) -> Tensor:
    """Return (B, 1 + P, W) residual stream, the class token first."""
    return x


@readout("cls")
def class_token(x: Tensor) -> Tensor:
    """Return (B, W) class token of the residual stream."""
    return x[:, 0]


@local_stream("vv")
def vv(tower: Tower, number: int, x: Tensor) -> Tensor:
    """Return value-value attention: the V-V stream of CLIP Surgery and KAnoCLIP, AnomalyCLIP's DPAM."""
    return tower.attend(number, x, value_value)


@local_stream("qkv")
def qkv(tower: Tower, number: int, x: Tensor) -> Tensor:
    """Return the sum of q-q, k-k and v-v attention: Crane's E-attention."""
    return tower.attend(number, x, self_self)
