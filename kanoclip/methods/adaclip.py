"""AdaCLIP (Cao et al., ECCV 2024, arXiv 2407.15795): static and image-dependent learned tokens in both towers.

Learned: five tokens in each of the first four blocks of both towers, the layers that compute their dynamic part from
CLIP's own image feature, one linear layer per tap and one for the class token; 10,665,472 parameters on ViT-L/14. The
method reads the input of the first block and runs the image tower itself. Text is encoded again for every image.
docs/methods/adaclip.md has the formulas, and the differences between the released code and the paper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.augmentation import Mosaic
from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.losses import dice, focal
from kanoclip.methods.adaclip_released import learned_from_released
from kanoclip.methods.base import AnomalyOutput, Batch, Method, log_odds, register
from kanoclip.methods.layerwise import LABEL_SMOOTHING, LayerwiseOptions, at_pixels
from kanoclip.methods.phases import ADAM_BETAS, Group, Phase
from kanoclip.methods.semantic_fusion import fused_feature
from kanoclip.prompts.ensemble import prompts
from kanoclip.prompts.tokens import HybridTokens
from kanoclip.types import InputError

ENSEMBLE = "adaclip"
MAX_LENGTH = 5  # words in each template before the class name


class AdaClipOptions(LayerwiseOptions):
    """Options of AdaCLIP. Defaults: the released code's."""

    prompt_length: int = Field(
        5,
        gt=0,
        le=MAX_LENGTH,
        description="learned tokens per block, of the image tower and of the text tower, where they replace the "
        "first words of the templates; at most five, because every template has five before the class name",
    )
    prompt_depth: int = Field(4, gt=0, description="blocks with learned tokens of their own; if a tower has fewer, all")
    fusion_patches: int = Field(
        100,
        gt=0,
        description="number of most anomalous patches that the image score uses; if the grid has fewer, all. In the "
        "publication 100 of 37 x 37, 7 %",
    )
    fusion_clusters: int = Field(
        20, gt=0, description="clusters of these patches; at most the number of different patches"
    )
    fusion_weight: float = Field(
        0.2,
        ge=0,
        le=1,
        description="alpha, share of the clusters' feature in the feature of the image; the rest is the class token",
    )
    dice_over: Literal["image", "row"] = Field(
        "image",
        description="region of one dice loss. image: as the paper means; row: one row of pixels, as the released code "
        "computes it, because its batches of one image lose a dimension",
    )
    sigma: float = Field(
        4.0, ge=0, description="Gaussian of the final map in pixels at 518, scaled with the image size"
    )
    learning_rate: float = Field(1e-2, gt=0, description="learning rate of AdamW (released code)")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW")
    mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a 2 x 2 mosaic of images of its class replaces a training image. The released "
        "code: 0.2 on MVTec-AD; such a training encodes its images again in each epoch",
    )


@register("adaclip")
class AdaClip(Method[AdaClipOptions]):
    """Hybrid tokens in both towers, and an image score from the most anomalous patches."""

    trainable = True
    not_exportable = "it clusters the patches of each image by k-means"
    published = {"epochs": 5, "batch_size": 1, "map_resolution": "image", "dice_over": "row", "mask_resize": "bilinear"}
    published_on = {"mvtec_ad": {"mosaic": 0.2}}
    # the released code builds OpenAI's weights without their QuickGELU
    published_backbone = {"model": "ViT-L-14-336", "weights": "openai", "activation": "gelu", "image_size": 518}

    def __init__(self, backbone: Backbone, options: AdaClipOptions, seed: int):
        super().__init__(backbone, options, seed)
        if backbone.tower.rotary:
            raise InputError(
                f"adaclip: the blocks of {backbone.config.model} rotate by position and take no further tokens; choose "
                "a model without rotary positions, such as a CLIP of OpenAI or LAION"
            )
        self.sigma = options.sigma
        width, joint_width = backbone.width, backbone.joint_width
        depth, length = options.prompt_depth, options.prompt_length
        self.vision = HybridTokens(min(depth, backbone.layers), length, width, joint_width)
        self.language = HybridTokens(min(depth, backbone.text_layers), length, backbone.text_width, joint_width)
        self.patch_layers = nn.ModuleList(nn.Linear(width, joint_width) for _ in backbone.quarters)
        self.class_layer = nn.Linear(joint_width, joint_width)

    @classmethod
    def reads(cls, options: AdaClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the input of the first block, and the class token of the unmodified tower."""
        return frozenset({Tap("tokens", 0), Tap("cls", tower.layers)})

    @classmethod
    def trains_on(cls, options: AdaClipOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the taps of `reads`, or nothing if images are augmented."""
        return frozenset() if options.mosaic else cls.reads(options, tower)

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Return the learned parameters from the authors' released checkpoint, by the names of `learned`.

        Args:
            files: a single object, as `torch.load` returns it.

        Raises:
            InputError: the object has another type, or a tensor is missing or has an unexpected shape.
        """
        return learned_from_released(files)

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score with the softmax of the taps' mean logits."""
        maps, image = self._log_odds(batch)
        mean = maps.mean(1, keepdim=True)  # (B, 1, h, w)
        if self.options.map_resolution == "image":
            mean = at_pixels(mean, self.backbone.config.image_size)
        return AnomalyOutput(mean[:, 0].sigmoid(), image_score=image.sigmoid())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the focal loss of the image score, and the focal and two Dice losses of the maps, summed over taps."""
        labels, masks = batch.truth  # (B,), (B, S, S)
        log_odds_of_maps, image = self._log_odds(batch)
        maps = at_pixels(log_odds_of_maps, masks.shape[-1]).sigmoid().unbind(1)  # K x (B, S, S)
        regions = _rows if self.options.dice_over == "row" else _whole
        truth = regions(masks)
        return {
            "image": focal(image.sigmoid(), labels, smoothing=LABEL_SMOOTHING),
            "focal": torch.stack([focal(abnormal, masks, smoothing=LABEL_SMOOTHING) for abnormal in maps]).sum(),
            "dice_abnormal": torch.stack([dice(regions(abnormal), truth) for abnormal in maps]).sum(),
            "dice_normal": torch.stack([dice(1 - regions(abnormal), 1 - truth) for abnormal in maps]).sum(),
        }

    def phases(self) -> list[Phase]:
        """Train the tokens and layers together with AdamW."""
        options = self.options
        parts = {
            "tokens": [*self.vision.parameters(), *self.language.parameters()],
            "layers": [*self.patch_layers.parameters(), *self.class_layer.parameters()],
        }
        groups: list[Group] = [
            {"name": name, "params": params, "lr": options.learning_rate} for name, params in parts.items()
        ]

        def adamw(groups: Iterable[Group]) -> torch.optim.Optimizer:
            return torch.optim.AdamW(groups, betas=ADAM_BETAS, weight_decay=options.weight_decay)

        augment = Mosaic(options.mosaic) if options.mosaic else None
        phase = options.phase(self.losses, groups, augment, self.reads(options, self.backbone.shape))
        return [replace(phase, optimizer=adamw)]

    def _log_odds(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log-odds (B, K, h, w) of the patches at K taps and (B,) of the image."""
        backbone, options = self.backbone, self.options
        context = backbone.project(batch.features[Tap("cls", backbone.layers)], unit=False)  # (B, C)
        text = self._text(batch.class_names, self.language(context))  # (B, 2, C)
        tokens, levels = self._image(batch.features[Tap("tokens", 0)], self.vision(context))
        patches = log_odds(levels, text, options.temperature)  # (B, K, P)
        fused = fused_feature(levels, patches.detach().mean(1), options.fusion_patches, options.fusion_clusters)
        feature = options.fusion_weight * fused + (1 - options.fusion_weight) * tokens
        image = log_odds(F.normalize(feature, dim=-1), text, options.temperature)  # (B,)
        return patches.unflatten(2, backbone.grid), image

    def _image(self, x: Tensor, learned: Tensor) -> tuple[Tensor, Tensor]:
        """Run the image tower with learned tokens after the patches; each of the first blocks has its own tokens.

        Args:
            x: (B, 1 + P, W) input of the first block.
            learned: (J, B, N, W).

        Returns:
            (B, C) the class token and (B, K, P, C) patches at K taps, unit vectors.
        """
        backbone, length = self.backbone, x.shape[1]

        def append(number: int, x: Tensor) -> Tensor:
            return torch.cat([x[:, :length], learned[number - 1]], dim=1) if number <= len(learned) else x

        taps, last = [Tap("tokens", tap) for tap in backbone.quarters], Tap("cls", backbone.layers)
        found = backbone.tower.run(x, before_block=append, watch={*taps, last})
        levels = [layer(found[tap][:, 1:length].float()) for layer, tap in zip(self.patch_layers, taps, strict=True)]
        token = self.class_layer(backbone.project(found[last].float(), unit=False))
        return F.normalize(token, dim=-1), F.normalize(torch.stack(levels, dim=1), dim=-1)

    def _text(self, class_names: Sequence[str], learned: Tensor) -> Tensor:
        """Encode the prompts of each image's class with the image's tokens in place of the first words.

        Args:
            class_names: (B,).
            learned: (J, B, N, D); those of the first block are not used, as in the released code.

        Returns:
            (B, 2, C) unit vectors, normal then abnormal.
        """
        backbone, length = self.backbone, learned.shape[2]
        texts = [[prompts(ENSEMBLE, polarity, name) for polarity in ("normal", "abnormal")] for name in class_names]
        normal, abnormal = (len(of_polarity) for of_polarity in texts[0])
        tokens = backbone.tokenize([text for both in texts for part in both for text in part]).to(learned.device)
        per_text = learned.repeat_interleave(normal + abnormal, dim=1)  # (J, T, N, D), T texts of all images

        def overwrite(number: int, x: Tensor) -> Tensor:
            if not 2 <= number <= len(per_text):
                return x
            return torch.cat([x[:, :1], per_text[number - 1], x[:, 1 + length :]], dim=1)

        encoded = backbone.encode_embeddings(backbone.text.token_embedding(tokens), tokens, overwrite)  # (T, C)
        vectors = F.normalize(encoded, dim=-1).view(len(class_names), normal + abnormal, -1)
        means = [of_polarity.mean(1) for of_polarity in vectors.split([normal, abnormal], dim=1)]
        return F.normalize(torch.stack(means, dim=1), dim=-1)


def _whole(maps: Tensor) -> Tensor:
    return maps


def _rows(maps: Tensor) -> Tensor:
    """Reshape (B, S, S) to (B S, S, 1): one row of pixels each."""
    return maps.reshape(-1, maps.shape[-1], 1)
