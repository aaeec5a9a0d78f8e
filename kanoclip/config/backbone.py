"""The keys of a backbone and of its second image towers."""

import re
from typing import Literal

from pydantic import Field, field_validator

from kanoclip.config.strict import Strict


class TowerConfig(Strict):
    """A second image tower beside CLIP's own."""

    model: str = Field(
        description="name of a ViT of timm with a class token, such as vit_base_patch14_reg4_dinov2.lvd142m"
    )
    weights: str = Field(
        "pretrained",
        description="'pretrained' (the published weights that the name stands for), a local checkpoint file or "
        "'random:SEED'",
    )
    image_size: int | None = Field(
        None,
        gt=0,
        description="pixels per side. null: that of the backbone; another size is resampled from the same squares",
    )
    vv_start: int | None = Field(
        None, gt=0, description="first block of its local streams, counted from 1. null: the first quarter"
    )


class BackboneConfig(Strict):
    """A CLIP model and how images go through it. Defaults: the paper's checkpoint at the input size of its peers."""

    model: str = Field(
        "ViT-L-14-336-quickgelu",
        description="name of an open_clip model, or kanoclip-tiny. The paper: ViT-L/14@336px; OpenAI's weights need "
        "the -quickgelu variant",
    )
    weights: str = Field(
        "openai",
        description="open_clip's pretrained tag, a local checkpoint file, 'embedded' (shipped with kanoclip) or "
        "'random:SEED'",
    )
    image_size: int = Field(
        518,
        gt=0,
        le=16_384,
        description="pixels per side; images are squashed to a square. The paper does not say; comparable methods use "
        "518",
    )
    taps: tuple[int, ...] | None = Field(
        None,
        description="blocks whose tokens serve as the four stages, counted from 1. null: the four quarters of the "
        "tower (6, 12, 18, 24 of 24), as comparable methods do",
    )
    vv_start: int | None = Field(
        None,
        gt=0,
        description="first block of the V-V stream, counted from 1. null: the first tap, so that every stage differs "
        "from the original stream",
    )
    activation: Literal["auto", "quick_gelu", "gelu"] = Field(
        "auto",
        description="auto refuses weights trained with another activation than the model's (open_clip only warns); "
        "quick_gelu and gelu are used without this check",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="number format of the frozen image tower. auto: bf16 on a GPU that has it, else fp16; fp32 on CPU",
    )
    position_resize: Literal["bicubic_antialias", "bicubic", "bilinear"] = Field(
        "bicubic_antialias",
        description="how the position table is resized to the image size. bicubic_antialias: as open_clip; bilinear: as"
        " AnomalyCLIP",
    )

    partial_patches: Literal["refuse", "cut"] = Field(
        "refuse",
        description="what to do if image_size is not a multiple of the patch size. cut: ignore the pixels right of and "
        "below the last whole patch, as MVFA-AD does with 240 pixels and patches of 14",
    )
    normalisation: Literal["model", "none"] = Field(
        "model",
        description="how pixels are normalised. model: by the model's mean and standard deviation; none: left in 0..1, "
        "as MVFA-AD",
    )

    towers: dict[str, TowerConfig] = Field(
        default_factory=dict,
        description="second image towers by name, for methods that read taps such as dino:tokens/12",
    )

    @field_validator("towers")
    @classmethod
    def _towers_have_plain_names(cls, towers: dict[str, TowerConfig]) -> dict[str, TowerConfig]:
        for name in towers:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "clip":
                raise ValueError(f"'{name}': a tower's name is of a-z, 0-9 and _, and not clip, the model's own tower")
        return towers

    @field_validator("taps")
    @classmethod
    def _taps_ascend(cls, taps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if taps is not None and (not taps or taps[0] < 1 or list(taps) != sorted(set(taps))):
            raise ValueError("must be block numbers from 1, ascending, without repetition")
        return taps
