"""A CLIP model as a frozen backbone: an image tower with taps, a text tower, and the provenance of their features."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kanoclip.backbones import calibrated as _calibrated  # noqa: F401 - registers its kind of tap
from kanoclip.backbones import pixels as _pixels  # noqa: F401 - registers its kind of tap
from kanoclip.backbones import views as _views  # noqa: F401 - registers its kind of tap
from kanoclip.backbones import windows as _windows  # noqa: F401 - registers its kind of tap
from kanoclip.backbones.second import load_tower
from kanoclip.backbones.shape import TowerShape, complete
from kanoclip.backbones.taps import CLIP, Features, Tap, check_taps
from kanoclip.backbones.text import TextTower
from kanoclip.backbones.tower import Tower
from kanoclip.backbones.weights import create_open_clip, image_tower, weights_identity
from kanoclip.config import BackboneConfig

PREPROCESSING = "RGB, squashed to a square by bicubic interpolation of 8-bit values, scaled to 0..1, normalised"


class Backbone(nn.Module):
    """A frozen CLIP. Build it with `load_backbone`.

    Attributes:
        clip: open_clip's model.
        towers: image towers by name; `tower` is CLIP's own, second towers get the same images.
        text: the part of `clip` with the text tower's parameters.
        config: its configuration, with taps and vv_start filled in.
        weights_sha256: identifies the weights, see `weights_identity`.
        text_vectors: a cache of text features of the frozen text tower, shared by methods.
    """

    clip: Any  # open_clip's classes carry no types
    text: Any
    towers: nn.ModuleDict
    _pixel_range: Tensor
    _pixel_mean: Tensor
    _pixel_std: Tensor

    def __init__(self, clip: Any, config: BackboneConfig, weights_sha256: str):
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        tower = image_tower(self.clip.visual)
        self.config = complete(config, tower.layers)
        self.weights_sha256 = weights_sha256
        self.text = getattr(clip, "text", clip)
        self._text_tower = TextTower(self.text, open_clip.get_tokenizer(config.model))
        assert self.config.vv_start is not None
        tower.vv_start = self.config.vv_start
        second = {name: load_tower(name, one, config.image_size) for name, one in config.towers.items()}
        self.towers = nn.ModuleDict({CLIP: tower, **second})
        self.text_vectors: dict[tuple[str, str], Tensor] = {}
        # kept on the device: creating them per batch would wait for all pending work each time
        self.register_buffer("_pixel_range", torch.tensor(255.0), persistent=False)
        self.register_buffer("_pixel_mean", torch.tensor(tower.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_pixel_std", torch.tensor(tower.std).view(3, 1, 1), persistent=False)
        self.set_precision()

    @property
    def tower(self) -> Tower:
        """CLIP's image tower."""
        tower = self.towers[CLIP]
        assert isinstance(tower, Tower)
        return tower

    @property
    def shape(self) -> TowerShape:
        """The shape of the tower, from which methods derive what they read."""
        tower, config = self.tower, self.config
        assert config.taps is not None and config.vv_start is not None
        return TowerShape(
            tower.layers, config.taps, config.vv_start, tower.width, tower.joint_width, (tower.grid[0], tower.grid[1])
        )

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.tower.device

    @property
    def blocks(self) -> Any:
        """The blocks of CLIP's image tower."""
        return self.tower.blocks

    @property
    def layers(self) -> int:
        """Number of blocks of CLIP's image tower."""
        return self.tower.layers

    @property
    def width(self) -> int:
        """W of CLIP's image tower."""
        return self.tower.width

    @property
    def joint_width(self) -> int:
        """C of the joint space."""
        return self.tower.joint_width

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image, P = h w."""
        return self.tower.grid

    @property
    def text_layers(self) -> int:
        """Number of blocks of the text tower."""
        return self._text_tower.layers

    @property
    def text_width(self) -> int:
        """D, of a word embedding."""
        return self._text_tower.width

    @property
    def quarters(self) -> tuple[int, ...]:
        """The configured four stages, blocks counted from 1."""
        return self.shape.taps

    def normalise(self, images: NDArray | Tensor) -> Tensor:
        """Turn images into the input of CLIP's tower, on its device.

        Args:
            images: (B, S, S, 3) uint8 RGB, squashed to the image size.

        Returns:
            (B, 3, S, S) float32, with the model's mean and standard deviation.
        """
        images = torch.as_tensor(images)
        if self.device.type == "cuda":
            images = images.pin_memory()
        values = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float()
        values.div_(self._pixel_range)  # a tensor: on a GPU torch multiplies by the reciprocal of a Python number
        return values.sub_(self._pixel_mean).div_(self._pixel_std)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor, taps: Collection[Tap]) -> Features:
        """Compute the features of a batch, running each tower at most once over whole images.

        Args:
            pixels: (B, 3, S, S), from `normalise`. A second tower sees the same images, resized and normalised as it
                was trained with.
            taps: the taps to return.

        Raises:
            InputError: no tower has a tap.
        """
        self.check(taps)
        pixels = pixels.to(self.device)
        features: Features = {}
        for name in sorted({tap.tower for tap in taps}):
            tower = self._tower(name)
            seen = pixels if name == CLIP else tower.normalise(self.tower.plain(pixels))
            features |= tower.encode(seen, [tap for tap in taps if tap.tower == name])
        return features

    def check(self, taps: Collection[Tap]) -> None:
        """Refuse taps that no tower has.

        Raises:
            InputError: a tower or kind is unknown, or a block is outside its tower.
        """
        check_taps(taps, {name: self._tower(name).layers for name in self.towers})

    def feature_shapes(self, taps: Collection[Tap]) -> dict[Tap, tuple[int, ...]]:
        """Return the shape of each tap of one image, found by a forward pass of one black image."""
        size = self.config.image_size
        found = self.encode_images(torch.zeros(1, 3, size, size), taps)
        return {tap: tuple(tensor.shape[1:]) for tap, tensor in sorted(found.items())}

    def project(self, tokens: Tensor, norm: bool = True, unit: bool = True) -> Tensor:
        """Project tokens of CLIP's image tower to the joint space: (..., W) to (..., C).

        Args:
            tokens: tokens of the residual stream or a local stream.
            norm: apply ln_post first, as in CLIP's training.
            unit: normalise the vectors to length 1.
        """
        return self.tower.project(tokens, norm, unit)

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return (T, 77) token ids."""
        return self._text_tower.tokenize(texts)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return (T, C) features of texts, not normalised; see `TextTower.encode`."""
        return self._text_tower.encode(texts)

    def encode_embeddings(
        self,
        embeddings: Tensor,
        tokens: Tensor,
        before_block: Callable[[int, Tensor], Tensor] | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Run the text tower on word embeddings, some of which may be learned; see `TextTower.run`."""
        return self._text_tower.run(embeddings, tokens, before_block, project)

    def provenance(self) -> dict[str, object]:
        """Return everything that cached features depend on; files count by content, not by path."""
        return provenance(self.config, self.weights_sha256)

    def set_precision(self) -> None:
        """Set the floating-point type of the blocks according to the towers' device."""
        for name in self.towers:
            self._tower(name).precision = precision_on(self.config.precision, self.device)

    def _tower(self, name: str) -> Tower:
        tower = self.towers[name]
        assert isinstance(tower, Tower)
        return tower


def precision_on(setting: str, device: torch.device) -> torch.dtype:
    """Return the floating-point type of a setting: auto is bf16 on a GPU that supports it, else fp16; fp32 on a CPU."""
    if setting == "auto":
        on_gpu = device.type == "cuda"
        setting = ("bf16" if _has_bf16(device) else "fp16") if on_gpu else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setting]


def _has_bf16(device: torch.device) -> bool:
    """Return whether a GPU has native bf16; torch emulates it on older ones, many times slower than fp16."""
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def load_backbone(config: BackboneConfig, device: str | torch.device = "cpu") -> Backbone:
    """Build a frozen backbone.

    Raises:
        InputError: the model or tag is unknown, a file is missing, or the weights were trained with another activation.
    """
    backbone = Backbone(create_open_clip(config), config, weights_identity(config)).to(device)
    backbone.set_precision()
    return backbone


def provenance(config: BackboneConfig, weights_sha256: str) -> dict[str, object]:
    """Return everything that features of a backbone depend on.

    Args:
        config: with taps and vv_start filled in. The precision is left out, since it only affects rounding, and so are
            the paths of weights files, which the checksum identifies.
        weights_sha256: from `weights_identity`.
    """
    meaning = config.model_dump(
        mode="json", exclude={"precision": True, "weights": True, "towers": {"__all__": {"weights"}}}
    )
    return {"backbone": meaning, "weights_sha256": weights_sha256, "preprocessing": PREPROCESSING}
