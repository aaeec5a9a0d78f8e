"""Crane and Crane+ (Salehi et al., 2025, arXiv 2504.11055): image-conditioned prompts, and scores pooled from patches.

The prompts are AnomalyCLIP's, with the image's feature after the context vectors. Patches come from the E-attention
stream (q-q, k-k and v-v attention); the image's feature is mixed with a mean of its patches, weighted by their anomaly
probability. Crane+, in crane_plus.py, adds patches whose attention follows a second tower such as DINOv2. The defaults
follow the paper, the published recipe follows the released code; docs/methods/crane.md has the formulas.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.losses import dice, focal
from kanoclip.maps import upsample
from kanoclip.methods.anomalyclip import NOUN, WORDS, AnomalyCLIPOptions, map_taps, object_prompts
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, register
from kanoclip.methods.layerwise import LABEL_SMOOTHING
from kanoclip.methods.phases import Group, Phase
from kanoclip.prompts.learned import prompt_text
from kanoclip.types import InputError

DEEP = "compound_prompts_text"  # in the authors' checkpoints
PUBLISHED_BACKBONE = {
    "model": "ViT-L-14-336-quickgelu",
    "weights": "openai",
    "image_size": 518,
    "position_resize": "bilinear",
    "vv_start": 6,
}


class CraneOptions(AnomalyCLIPOptions):
    """Options of Crane. Defaults: the paper's, where code and paper differ."""

    epochs: int = Field(5, gt=0, description="passes over the auxiliary dataset (released code)")
    map_blocks: Literal["last", "stages"] = Field(
        "last",
        description="block or blocks whose E-attention tokens make maps. last: where the paper's sum over blocks ends; "
        "stages: the four taps. The released code asks for four and gets the last one four times",
    )
    class_token_norm: bool = Field(
        True, description="apply ln_post to the class token before its projection (released code)"
    )
    map_weight: float = Field(2.0, ge=0, description="weight of the focal and dice loss of each map (released code)")
    image_weight: float = Field(0.2, ge=0, description="weight of the cross-entropy of the image (released code)")
    training_temperature: float = Field(
        0.01,
        gt=0,
        description="divides the similarities of the image in training; scoring uses `temperature` (code)",
    )
    context_in_training: bool = Field(
        True, description="put the image's feature after the context vectors, in training"
    )
    context_in_scoring: bool = Field(
        True, description="the same in scoring: the paper does, the released code by default does not"
    )
    pooling: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the pooled patches in the feature of the image (released code); 0 for none",
    )
    map_mean: Literal["probabilities", "logits"] = Field(
        "probabilities",
        description="what is averaged over the maps: their probabilities, or their logits at the image's pixels (the "
        "released code's soft_mean false), which writes maps of the image's size",
    )


@register("crane")
class Crane(Method[CraneOptions]):
    """Learned prompts with image context, E-attention patches, score-based pooling."""

    trainable = True
    published: ClassVar[Mapping[str, Any]] = {
        "context_in_scoring": False,
        "map_weight": 8.0,  # 2 for each of four taps
        "mask_resize": "bilinear",
    }
    published_backbone: ClassVar[Mapping[str, Any]] = PUBLISHED_BACKBONE

    def __init__(self, backbone: Backbone, options: CraneOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.sigma = options.sigma
        if (options.context_in_training or options.context_in_scoring) and backbone.joint_width != backbone.text_width:
            raise InputError(
                f"crane: image features have {backbone.joint_width} numbers and word embeddings {backbone.text_width}, "
                "so an image cannot be a word of a prompt; set context_in_training and context_in_scoring to false"
            )
        if options.context_in_scoring:
            self.not_exportable = "its text vectors depend on the image; train it with context_in_scoring: false"
        self.prompts = object_prompts(backbone.text_width, backbone.text_layers, options)
        self._text: Tensor | None = None  # (1, 2, C) without image context, once training is over

    @classmethod
    def reads(cls, options: CraneOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the class token, and the E-attention stream at the taps that make maps."""
        taps = map_taps(options, tower.taps, tower.layers)
        return frozenset({Tap("cls", tower.layers), *(Tap("qkv", tap) for tap in taps)})

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Return the learned parameters from a checkpoint of the authors, by the names of `learned`.

        Args:
            files: one object, as torch.load returns it: {"prompt_learner": its state}.

        Returns:
            "prompts.context" (2, E, D) and "prompts.deep.layers" (J - 1, M, D), fp32.

        Raises:
            InputError: the number of files is not one, or an entry is missing or does not match the others.
        """
        state = files[0].get("prompt_learner") if len(files) == 1 and isinstance(files[0], Mapping) else None
        if not isinstance(state, Mapping):
            raise InputError("crane: expected one checkpoint file with an entry prompt_learner; name one epoch_N.pth")
        contexts = [_entry(state, f"ctx_{polarity}", 4)[0] for polarity in ("pos", "neg")]  # (1, E, D) each
        depth = 1
        while f"{DEEP}.{depth - 1}" in state:
            depth += 1
        deep = [_entry(state, f"{DEEP}.{number}", 2) for number in range(depth - 1)]  # (M, D) each
        width = contexts[0].shape[2]
        try:
            layers = torch.stack(deep) if deep else contexts[0].new_empty(0, 1, width)
            return {"prompts.context": torch.cat(contexts), "prompts.deep.layers": layers}
        except RuntimeError as error:
            raise InputError("crane: prompt_learner: expected prompts of one length and width") from error

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the trained prompts."""
        image, patches = self._features(batch)
        text = self._scoring_text(image)
        maps = log_odds(patches, text, self.options.temperature)  # (B, K, P)
        score = log_odds(self._pooled(image, patches, maps), text, self.options.temperature).sigmoid()
        maps = maps.unflatten(2, self.backbone.grid)
        if self.options.map_mean == "probabilities":
            return AnomalyOutput(maps.sigmoid().mean(1), image_score=score)
        side = self.backbone.config.image_size
        return AnomalyOutput(upsample(maps.mean(1), (side, side)).sigmoid(), image_score=score)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of the image's feature, and focal and dice losses of each map, weighted."""
        labels, masks = batch.truth  # (B,), (B, S, S)
        image, patches = self._features(batch)
        text = self._prompt_vectors(image if self.options.context_in_training else None)
        maps = log_odds(patches, text, self.options.temperature)  # (B, K, P)
        score = log_odds(self._pooled(image, patches, maps), text, self.options.training_temperature)
        probabilities = maps.unflatten(2, self.backbone.grid).sigmoid()
        full = F.interpolate(probabilities, masks.shape[1:], mode="nearest").unbind(1)  # K x (B, S, S)
        weight = self.options.map_weight
        return {
            "image": self.options.image_weight * F.binary_cross_entropy_with_logits(score, labels),
            "focal": weight * torch.stack([focal(map_, masks, smoothing=LABEL_SMOOTHING) for map_ in full]).sum(),
            "dice": weight * torch.stack([dice(map_, masks) for map_ in full]).sum(),
        }

    def phases(self) -> list[Phase]:
        """Train the context and the deep prompts together."""
        prompts = {"name": "prompts", "params": list(self.prompts.parameters()), "lr": self.options.learning_rate}
        return [replace(self.options.phase(self.losses, [prompts]), optimizer=_adam)]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, and drop the cached text vectors in training."""
        self._text = None
        return super().train(mode)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (B, C) of the images and (B, K, P, C) of their patches in K views, unit vectors."""
        cls = batch.features[Tap("cls", self.backbone.layers)]
        taps = map_taps(self.options, self.backbone.quarters, self.backbone.layers)
        local = torch.stack([batch.features[Tap("qkv", tap)][:, 1:] for tap in taps], dim=1)
        return self.backbone.project(cls, norm=self.options.class_token_norm), self.backbone.project(local)

    def _pooled(self, image: Tensor, patches: Tensor, maps: Tensor) -> Tensor:
        """Mix the image's feature with its patches, weighted by anomaly probability; return (B, C) unit vectors."""
        weights = maps.mean(1).sigmoid()  # (B, P)
        pooled = F.normalize(torch.einsum("bp,bpc->bc", weights, patches.mean(1)), dim=-1)
        return F.normalize(torch.lerp(image, pooled, self.options.pooling), dim=-1)

    def _scoring_text(self, image: Tensor) -> Tensor:
        if self.options.context_in_scoring:
            return self._prompt_vectors(image)
        if self._text is None:
            self._text = self._prompt_vectors(None)
        return self._text.expand(image.shape[0], -1, -1)  # not len(), which export takes for a constant

    def _prompt_vectors(self, image: Tensor | None) -> Tensor:
        """Return (B, 2, C) unit text vectors for images (B, C), or (1, 2, C) of the prompts without an image."""
        if image is None:
            return self.prompts(self.backbone, [NOUN])
        polarities = []
        for context, (word,) in zip(self.prompts.context, WORDS, strict=True):
            longer = torch.cat([context.expand(len(image), -1, -1), image[:, None]], dim=1)  # (B, E + 1, D)
            texts = [prompt_text(self.prompts.length + 1, word, NOUN)] * len(image)
            polarities.append(F.normalize(self.prompts.encode(self.backbone, texts, longer), dim=-1))
        return torch.stack(polarities, dim=1)


def _adam(groups: Iterable[Group]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=(0.6, 0.999))  # of the released code


def _entry(state: Mapping[str, Any], name: str, dimensions: int) -> Tensor:
    """Return a tensor of the authors' state in fp32."""
    tensor = state.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim != dimensions or not tensor.isfinite().all():
        found = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"crane: prompt_learner: {name}: expected {dimensions} dimensions, finite, found {found}")
    return tensor.float()
