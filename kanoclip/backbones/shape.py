"""The shape of a tower, computed without building it and without torch."""

from dataclasses import dataclass

from kanoclip.backbones.descriptions import supported
from kanoclip.backbones.stem_shape import WITH_STEM
from kanoclip.config import BackboneConfig
from kanoclip.types import InputError


@dataclass(frozen=True)
class TowerShape:
    """The shape of CLIP's image tower at the configured image size.

    Attributes:
        layers: number of blocks.
        taps: the four stages, blocks counted from 1.
        vv_start: first block of the local streams, counted from 1.
        width: W of the residual stream.
        joint_width: C of the space shared with text.
        grid: (h, w) patches of an image.
        stem: whether the features of a convolutional network join the patches.
    """

    layers: int
    taps: tuple[int, ...]
    vv_start: int
    width: int
    joint_width: int
    grid: tuple[int, int]
    stem: bool = False

    @property
    def patches(self) -> int:
        """P = h w."""
        return self.grid[0] * self.grid[1]


def tower_shape(backbone: BackboneConfig) -> TowerShape:
    """Return the shape of an image tower, without building it.

    Raises:
        InputError: the model is unknown or cannot be used, or the taps do not fit it.
    """
    known = supported(backbone.model)
    assert known.layers is not None and known.width is not None and known.patch_size is not None
    settings = complete(backbone, known.layers)
    assert settings.taps is not None and settings.vv_start is not None
    side = backbone.image_size // known.patch_size
    sizes, stem = (known.width, known.joint_width, (side, side)), backbone.model in WITH_STEM
    return TowerShape(known.layers, settings.taps, settings.vv_start, *sizes, stem)


def complete(config: BackboneConfig, layers: int) -> BackboneConfig:
    """Fill in taps and vv_start for a tower with this number of blocks.

    Raises:
        InputError: a tap or the start lies outside the tower.
    """
    taps = config.taps or tuple(max(1, round(layers * quarter / 4)) for quarter in (1, 2, 3, 4))
    start = config.vv_start or taps[0]
    if max(*taps, start) > layers:
        raise InputError(
            f"backbone {config.model}: taps {taps} and vv_start {start} must be at most {layers}, its number of blocks"
        )
    return config.model_copy(update={"taps": taps, "vv_start": start})
