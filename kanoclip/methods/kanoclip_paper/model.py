"""KAnoCLIP (Li et al. 2025, arXiv 2501.03786): knowledge-driven prompts, V-V attention, cross-modal fusion, an adapter.

Learned: prompt contexts (KnPL), one Bi-CMCI module per tap, the Conv-Adapter. CLIP stays frozen. Where the paper is
ambiguous, the choice is an option with its reason. Equation numbers are the paper's; docs/kanoclip.md has a diagram.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Features, Tap
from kanoclip.losses import cross_entropy, dice, distance, focal, knowledge_hinge
from kanoclip.maps import final_map, upsample
from kanoclip.methods.base import AnomalyOutput, Batch, Method, per_class, register
from kanoclip.methods.kanoclip_paper.adapter import ConvAdapter
from kanoclip.methods.kanoclip_paper.bi_cmci import BiCMCI, cosines
from kanoclip.methods.kanoclip_paper.formulas import NORMS, SCORES
from kanoclip.methods.kanoclip_paper.knowledge_features import KnowledgeFeatures
from kanoclip.methods.kanoclip_paper.options import KAnoCLIPOptions
from kanoclip.methods.phases import Phase
from kanoclip.prompts.deep import DeepPrompts
from kanoclip.prompts.ensemble import PromptEnsemble
from kanoclip.prompts.learned import LearnedPrompts
from kanoclip.types import InputError

NOUN = "object"  # used in prompts without a class name
HAND_WRITTEN = "clip"  # the prompts without KnPL; the ablation's baseline is the method clip


class Evidence(NamedTuple):
    """The intermediate results for B images; pairs are normal, then abnormal.

    Attributes:
        maps: (B, 2, h, w) M_n and M_a of equation 9, in 0..1.
        probability: (B, 2) of the global feature.
        score: (B, 2) of the image, equation 12.
    """

    maps: Tensor
    probability: Tensor
    score: Tensor


@register("kanoclip")
class KAnoCLIP(Method[KAnoCLIPOptions]):
    """The four components of the paper, each of which an option can disable."""

    trainable = True

    def __init__(self, backbone: Backbone, options: KAnoCLIPOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.sigma = options.sigma
        self.prompts: LearnedPrompts | None = None
        if options.knowledge_prompts:
            self.prompts = learned_prompts(backbone.text_width, backbone.text_layers, options)
        self.stages: nn.ModuleDict | None = None
        if options.bi_cmci:
            width = backbone.width if options.tap_space == "raw" else backbone.joint_width
            self.stages = nn.ModuleDict(
                {str(tap): BiCMCI(options, width, backbone.joint_width, backbone.grid) for tap in backbone.quarters}
            )
        self.adapter: ConvAdapter | None = None
        if options.conv_adapter:
            self.adapter = ConvAdapter(
                backbone.joint_width, options.bottleneck, options.adapter_residual, options.adapter_depthwise
            )
        self._written = PromptEnsemble(backbone, HAND_WRITTEN)
        self._text: dict[str, Tensor] = {}  # text vectors of the classes, cached outside training
        self._knowledge = KnowledgeFeatures(backbone.encode_text, {}, {})
        self._diagnostics: dict[str, float] = {}

    @classmethod
    def reads(cls, options: KAnoCLIPOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the taps of the four stages and of the global feature."""
        return frozenset(
            {*(_stage(options, tap) for tap in _stages(options, tower.taps)), _global(options, tower.layers)}
        )

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score a batch with the trained components."""
        images = next(iter(batch.features.values())).shape[0]
        text = per_class(batch.class_names, self._cached_text).expand(images, -1, -1)  # one class may stand for all
        evidence = self._evidence(batch.features, text)
        return AnomalyOutput(_combined(evidence.maps), image_score=evidence.score[:, 1])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of equations 13 to 15."""
        labels, masks = batch.truth  # (B,), (B, S, S)
        options = self.options
        text = per_class(batch.class_names, self.text)  # (B, 2, C)
        evidence = self._evidence(batch.features, text)
        size = masks.shape[1], masks.shape[2]
        normal, abnormal = (upsample(maps, size) for maps in evidence.maps.unbind(1))  # (B, S, S)
        seen = evidence.score if options.global_loss_on == "score" else evidence.probability
        parts = {
            "global": options.global_weight * cross_entropy(seen, labels),
            "focal": options.local_weight * focal(abnormal, masks),
            "dice_normal": options.local_weight * dice(normal, 1 - masks),
            "dice_abnormal": options.local_weight * dice(abnormal, masks),
        }
        if self.prompts is None:
            return parts
        return {"knowledge": options.knowledge_weight * self._knowledge_loss(batch, text), **parts}

    def text(self, class_names: Sequence[str]) -> Tensor:
        """Return F_text of n classes: (n, 2, C) unit vectors, normal then abnormal."""
        return self._written(class_names) if self.prompts is None else self.prompts(self.backbone, class_names)

    def learn_knowledge(self, knowledge: Mapping[str, Sequence[str]], images: Mapping[str, Sequence[str]] = {}) -> None:
        """Encode the descriptions, equation 3.

        Raises:
            InputError: no image has a description, and knowledge_scope is image.
        """
        if self.prompts is None:
            return
        of_images = images if self.options.knowledge_scope == "image" else {}
        if self.options.knowledge_scope == "image" and not of_images:
            raise InputError(
                "kanoclip: knowledge_scope image needs descriptions of single images, found none; add the source mask "
                "or vqa to the knowledge, or set knowledge_scope class"
            )
        self._knowledge = KnowledgeFeatures(self.backbone.encode_text, knowledge, of_images)

    def diagnostics(self) -> dict[str, float]:
        """Return the share of knowledge hinges above 0."""
        return self._diagnostics

    def phases(self) -> list[Phase]:
        """Train the prompts and the other parameters, with separate learning rates."""
        heads = [
            parameter for part in (self.stages, self.adapter) if part is not None for parameter in part.parameters()
        ]
        prompts = [] if self.prompts is None else list(self.prompts.parameters())
        groups = [
            {"name": "prompts", "params": prompts, "lr": self.options.prompt_learning_rate},
            {"name": "heads", "params": heads, "lr": self.options.learning_rate},
        ]
        return [self.options.phase(self.losses, [group for group in groups if group["params"]])]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, and drop the cached text vectors in training."""
        self._text = {}
        return super().train(mode)

    def _evidence(self, features: Features, text: Tensor) -> Evidence:
        options, size = self.options, self.backbone.config.image_size
        taps = _stages(options, self.backbone.quarters)
        similarity = torch.stack([self._similarity(tap, features, text) for tap in taps])  # (K, B, P, 2)
        maps = NORMS[options.norm](similarity, options.temperature)  # equation 9: (B, P, 2)
        maps = maps.transpose(1, 2).unflatten(2, self.backbone.grid)  # (B, 2, h, w)
        final = final_map(_combined(maps), size, self.sigma)  # equation 10: (B, S, S)
        image = self._global_feature(features)  # (B, C)
        probability = (cosines(image[:, None], text)[:, 0] / options.temperature).softmax(-1)  # (B, 2)
        peak = final.amax((1, 2)).clamp(0, 1)  # (B,), clamped against rounding errors
        score = SCORES[options.image_score](probability, torch.stack([1 - peak, peak], dim=1))  # equation 12, halved
        return Evidence(maps, probability, score)

    def _similarity(self, tap: int, features: Features, text: Tensor) -> Tensor:
        """Return (B, P, 2) similarities of one tap's patches with the text, normal then abnormal."""
        patches = features[_stage(self.options, tap)][:, 1:]  # (B, P, W)
        if self.stages is None:
            return cosines(self.backbone.project(patches), text)
        if self.options.tap_space == "joint":
            patches = self.backbone.project(patches)  # (B, P, C)
        joint = None
        if self.options.output_space == "clip":
            joint = self.backbone.project(
                features[_stage(self.options, self.backbone.quarters[-1])][:, 1:]
            )  # (B, P, C)
        return self.stages[str(tap)](patches, text, joint)

    def _global_feature(self, features: Features) -> Tensor:
        """Return (B, C) the global feature I_G, adapted (equation 11)."""
        tap = _global(self.options, self.backbone.layers)
        tokens = features[tap]  # (B, W), or (B, 1 + P, W)
        if tap.kind == "cls":
            token = tokens
        else:
            token = tokens[:, 1:].mean(1) if self.options.global_from == "local_mean" else tokens[:, 0]
        image = self.backbone.project(token)
        if self.adapter is None:
            return image
        if not self.options.adapter_depthwise:
            return self.adapter(image)
        patches = self.backbone.project(tokens[:, 1:]).unflatten(1, self.backbone.grid)  # (B, h, w, C)
        return self.adapter(image, patches)

    def _knowledge_loss(self, batch: Batch, text: Tensor) -> Tensor:
        """Return equation 2, averaged over the classes of the batch or over its images."""
        rows, knowledge = self._knowledge(batch.images, batch.class_names)
        normal, abnormal = text[rows].unbind(1)  # (K, C)
        if self.options.knowledge_form == "hinge":
            values = knowledge_hinge(knowledge, normal, abnormal, self.options.margin)  # (K,)
        else:
            values = distance(knowledge, abnormal)
        self._diagnostics = {"knowledge_active": (values > 0).float().mean().item()}
        return values.mean()

    def _cached_text(self, class_names: Sequence[str]) -> Tensor:
        for name in class_names:
            if name not in self._text:
                self._text[name] = self.text([name])[0]
        return torch.stack([self._text[name] for name in class_names])


def learned_prompts(text_width: int, text_layers: int, options: KAnoCLIPOptions) -> LearnedPrompts:
    """Return the prompts of KnPL.

    Args:
        text_width: D, of a word embedding.
        text_layers: blocks of the text tower.
        options: lengths, words and depth.

    Raises:
        InputError: the prompts are deeper than the tower.
    """
    if options.deep_depth > text_layers:
        raise InputError(
            f"kanoclip: deep_depth must be at most {text_layers}, the text tower's blocks, found {options.deep_depth}"
        )
    deep = DeepPrompts(text_width, options.deep_depth, options.deep_length) if options.deep_depth > 1 else None
    noun = NOUN if options.object_agnostic else None
    words = options.normal_words, options.abnormal_words
    return LearnedPrompts(
        text_width, options.prompt_length, words, per_word=options.prefix_per_word, noun=noun, deep=deep
    )


def _stages(options: KAnoCLIPOptions, taps: tuple[int, ...]) -> tuple[int, ...]:
    return taps if options.bi_cmci or options.unfused_taps == "all" else taps[-1:]


def _stage(options: KAnoCLIPOptions, tap: int) -> Tap:
    return Tap("vv" if options.local_stream else "tokens", tap)


def _global(options: KAnoCLIPOptions, last: int) -> Tap:
    """Return the tap of the global feature: the original stream's class token, unless the adapter reads patches."""
    if options.global_from != "original":
        return Tap("vv", last)
    return Tap("tokens" if options.conv_adapter and options.adapter_depthwise else "cls", last)


def _combined(maps: Tensor) -> Tensor:
    """Return (M_a + 1 - M_n) / 2 of equation 10, before the Gaussian: (B, 2, h, w) to (B, h, w)."""
    return (maps[:, 1] + 1 - maps[:, 0]) / 2
