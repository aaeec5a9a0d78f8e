"""AnomalyCLIP (Zhou et al., ICLR 2024, arXiv 2310.18961): object-agnostic prompts, which say "object" for any class.

Learned: a context in front of "object." and of "damaged object.", and deep prompts inside the text tower; 43,008
parameters on ViT-L/14. Patches come from the V-V stream (the paper's DPAM), the image's feature from CLIP's own. The
released code is followed; docs/methods/anomalyclip.md has the formulas.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import open_clip
import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.losses import dice, focal
from kanoclip.maps import upsample
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, register
from kanoclip.methods.layerwise import LABEL_SMOOTHING
from kanoclip.methods.phases import Phase, TrainingOptions
from kanoclip.methods.states import State, levels, states, take
from kanoclip.prompts.deep import DeepPrompts
from kanoclip.prompts.learned import LearnedPrompts, prompt_text
from kanoclip.types import InputError

NOUN = "object"
WORDS = (("",), ("damaged",))  # "[v_1] ... [v_K] object.", "[w_1] ... [w_K] damaged object."


class AnomalyCLIPOptions(TrainingOptions):
    """Options of AnomalyCLIP. Defaults: the released training script's."""

    prompt_length: int = Field(12, gt=0, description="E, learned word embeddings per polarity (released code)")
    deep_length: int = Field(
        4,
        gt=0,
        validate_default=True,
        description="learned tokens per text block, in the places of the first context tokens (released code)",
    )
    deep_depth: int | None = Field(
        None,
        gt=0,
        description="text blocks with learned tokens, the first with its context; 1 for no deep prompts. null: three "
        "quarters of the tower, as the released code's 9 of 12",
    )
    map_blocks: Literal["last", "stages"] = Field(
        "last",
        description="block or blocks whose V-V tokens make the map. last: as the released code (which asks for four "
        "taps but gets the last one four times); stages: the four taps, with losses summed and maps "
        "averaged",
    )
    class_token_norm: bool = Field(
        False,
        description="apply ln_post to the class token before its projection; the released code does not, and its "
        "authors report no difference",
    )
    temperature: float = Field(0.07, gt=0, description="divides the cosine similarities (released code)")
    sigma: float = Field(
        4.0, ge=0, description="Gaussian of the final map in pixels at 518, scaled with the image size (released code)"
    )
    map_weight: float = Field(4.0, ge=0, description="lambda, weight of the losses of the map (released code)")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam (released code)")

    @field_validator("deep_length")
    @classmethod
    def _fits_the_context(cls, length: int, info: ValidationInfo) -> int:
        if length > info.data.get("prompt_length", length):
            raise ValueError(f"must be at most prompt_length {info.data['prompt_length']}")
        return length


@register("anomalyclip")
class AnomalyCLIP(Method[AnomalyCLIPOptions]):
    """Two learned prompts for all objects."""

    trainable = True
    published = {"mask_resize": "bilinear"}
    published_backbone = {
        "model": "ViT-L-14-336-quickgelu",
        "weights": "openai",
        "image_size": 518,
        "position_resize": "bilinear",
        "vv_start": 6,
    }

    def __init__(self, backbone: Backbone, options: AnomalyCLIPOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.sigma = options.sigma
        self.prompts = object_prompts(backbone.text_width, backbone.text_layers, options)
        self._text: Tensor | None = None  # (2, C), once training is over

    @classmethod
    def reads(cls, options: AnomalyCLIPOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the class token, and the V-V stream after the last block or at the four taps."""
        taps = map_taps(options, tower.taps, tower.layers)
        return frozenset({Tap("cls", tower.layers), *(Tap("vv", tap) for tap in taps)})

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained prompts."""
        if self._text is None:
            self._text = self._prompt_vectors()
        image, maps = self._log_odds(batch, self._text)
        return AnomalyOutput(maps.sigmoid().mean(1), image_score=image.sigmoid())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of the image's feature, and focal and two dice losses of each map, weighted."""
        labels, masks = batch.truth  # (B,), (B, S, S)
        image, maps = self._log_odds(batch, self._prompt_vectors())
        full = [upsample(of_tap, (masks.shape[1], masks.shape[2])) for of_tap in maps.sigmoid().unbind(1)]
        parts = {
            "focal": [focal(abnormal, masks, smoothing=LABEL_SMOOTHING) for abnormal in full],
            "dice_abnormal": [dice(abnormal, masks) for abnormal in full],
            "dice_normal": [dice(1 - abnormal, 1 - masks) for abnormal in full],
        }
        weighted = {name: self.options.map_weight * torch.stack(values).sum() for name, values in parts.items()}
        return {"image": F.binary_cross_entropy_with_logits(image, labels), **weighted}

    def phases(self) -> list[Phase]:
        """Train the context and the deep prompts together."""
        prompts = {"name": "prompts", "params": list(self.prompts.parameters()), "lr": self.options.learning_rate}
        return [self.options.phase(self.losses, [prompts])]

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Translate the state of the authors' `prompt_learner`; Crane, which builds on it, has the same prompts.

        The authors' forward pass casts the deep prompts to float16, so they are rounded here.
        """
        (state,) = states(files, "prompt_learner")
        normal = take(state, "ctx_pos", (1, 1, None, None))  # (1, 1, E, D)
        abnormal = take(state, "ctx_neg", tuple(normal.shape))
        for name, (word,) in zip(("tokenized_prompts_pos", "tokenized_prompts_neg"), WORDS, strict=True):
            _check_tokens(state, name, prompt_text(normal.shape[2], word, NOUN))
        learned = {"prompts.context": torch.cat([normal[0], abnormal[0]])}
        shape: tuple[int | None, ...] = (None, normal.shape[3])
        deep = []
        for number in range(levels(state, "compound_prompts_text.{}")):
            deep.append(take(state, f"compound_prompts_text.{number}", shape))  # (M, D)
            shape = tuple(deep[0].shape)
        return learned | ({"prompts.deep.layers": torch.stack(deep).half().float()} if deep else {})

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, and drop the cached text vectors in training."""
        self._text = None
        return super().train(mode)

    def _prompt_vectors(self) -> Tensor:
        return self.prompts(self.backbone, [NOUN])[0]

    def _log_odds(self, batch: Batch, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds (B,) of images and (B, K, h, w) of patches at K taps, against text vectors (2, C)."""
        text = text.expand(len(batch.images), -1, -1)
        image = self.backbone.project(
            batch.features[Tap("cls", self.backbone.layers)], norm=self.options.class_token_norm
        )  # (B, C)
        taps = map_taps(self.options, self.backbone.quarters, self.backbone.layers)
        patches = torch.stack([batch.features[Tap("vv", tap)][:, 1:] for tap in taps], dim=1)  # (B, K, P, W)
        maps = log_odds(self.backbone.project(patches), text, self.options.temperature)  # (B, K, P)
        return log_odds(image, text, self.options.temperature), maps.unflatten(2, self.backbone.grid)


def _check_tokens(state: State, name: str, text: str) -> None:
    """Refuse prompts that were learned with other words."""
    if name in state and state[name].flatten().tolist() != open_clip.tokenize([text])[0].tolist():
        raise InputError(f"{name}: expected the tokens of '{text}', found those of another text")


def map_taps(options: AnomalyCLIPOptions, taps: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Return the blocks whose V-V tokens make the map, given the backbone's taps and its number of blocks."""
    return (layers,) if options.map_blocks == "last" else taps


def object_prompts(text_width: int, text_layers: int, options: AnomalyCLIPOptions) -> LearnedPrompts:
    """Return the learnable prompts.

    Args:
        text_width: D, the width of a word embedding.
        text_layers: number of blocks of the text tower.
        options: lengths and depth.

    Raises:
        InputError: the prompts are deeper than the tower.
    """
    depth = options.deep_depth or max(1, round(text_layers * 3 / 4))
    if depth > text_layers:
        raise InputError(
            f"anomalyclip: deep_depth must be at most {text_layers}, the text tower's blocks, found {depth}"
        )
    deep = DeepPrompts(text_width, depth, options.deep_length)
    return LearnedPrompts(text_width, options.prompt_length, WORDS, noun=NOUN, deep=deep)
