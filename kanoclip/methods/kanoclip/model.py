"""KAnoCLIP (Li et al. 2025, arXiv 2501.03786): knowledge-driven prompts, V-V attention, cross-modal fusion, an adapter.

Learned: prompt contexts (KnPL), one Bi-CMCI module a tap, the Conv-Adapter. CLIP stays frozen. The paper leaves much
unsaid; every reading is an option with its reason. Equation numbers are the paper's.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import Streams
from kanoclip.config import Strict
from kanoclip.losses import dice, focal, knowledge_distance
from kanoclip.maps import scaled_sigma, smooth, upsample
from kanoclip.methods.base import AnomalyOutput, Batch, Method, TrainingOptions, per_class, register, two_way
from kanoclip.methods.kanoclip.adapter import ConvAdapter
from kanoclip.methods.kanoclip.bi_cmci import BiCMCI
from kanoclip.prompts.learned import LearnedPrompts


class KAnoCLIPOptions(TrainingOptions):
    """Options of KAnoCLIP. Printed in the paper: prompt_length, the words, the loss weights of 1, margin 0."""

    prompt_length: int = Field(12, gt=0, description="learned word embeddings a polarity (paper, section 3.1)")
    normal_words: tuple[str, ...] = Field(
        ("normal", "perfect"), description="state words of the normal prompts (paper, section 2.2)"
    )
    abnormal_words: tuple[str, ...] = Field(("abnormal", "defective"), description="and of the abnormal ones")
    width: int = Field(
        256, gt=0, description="d of Bi-CMCI; not given: GroundingDINO's enhancer, which has the same parts, uses 256"
    )
    heads: int = Field(8, gt=0, description="attention heads of Bi-CMCI; not given: as GroundingDINO")
    deform_groups: int = Field(
        4, gt=0, description="offset groups of the deformable attention; not given: within DAT's 2 to 16"
    )
    deform_stride: int = Field(
        4, gt=0, description="patches between sampled points; not given: 10 x 10 points on a 37 x 37 grid"
    )
    deform_kernel: int = Field(
        5, gt=0, description="kernel of the offset network; not given: DAT's second stage with this stride"
    )
    bottleneck: int = Field(
        192, gt=0, description="of the Conv-Adapter; not given: a quarter of CLIP's joint width 768"
    )
    output_space: Literal["own", "clip"] = Field(
        "own",
        description="where Bi-CMCI compares patches with text: the fused tokens themselves (equation 9 as printed), "
        "or CLIP's joint space with the fused tokens added, which starts from CLIP-VV's map and needs "
        "fewer images",
    )
    adapter_residual: bool = Field(
        False,
        description="add the image feature to the Conv-Adapter's output; equation 11 prints none. true starts from "
        "CLIP's image feature and needs fewer images",
    )
    temperature: float = Field(
        0.07, gt=0, description="divides cosine similarities; not given: AnomalyCLIP's. Changes image scores"
    )
    sigma: float = Field(
        4.0,
        ge=0,
        description="Gaussian of equation 10 in pixels at 518, scaled with the image size; not given: AnomalyCLIP's",
    )
    margin: float = Field(0.0, ge=0, description="of the knowledge hinge, equation 2; 0 as printed")
    knowledge_weight: float = Field(1.0, ge=0, description="of L_KD in equation 15; 1 as printed")
    global_weight: float = Field(1.0, ge=0, description="of L_global in equation 15; 1 as printed")
    local_weight: float = Field(1.0, ge=0, description="of L_local in equation 15; 1 as printed")
    prompt_learning_rate: float = Field(1e-3, gt=0, description="Adam, for the prompts; not given: AnomalyCLIP's")
    learning_rate: float = Field(
        1e-4, gt=0, description="Adam, for Bi-CMCI and Conv-Adapter; not given: usual for attention layers"
    )


@register("kanoclip")
class KAnoCLIP(Method):
    """All four parts of the paper."""

    Options = KAnoCLIPOptions
    trainable = True
    stochastic = True

    def __init__(self, backbone: Backbone, options: KAnoCLIPOptions, seed: int):
        super().__init__(backbone, options, seed)
        self.options = options
        self.sigma = options.sigma
        self.prompts = LearnedPrompts(
            backbone.text_width, options.prompt_length, (options.normal_words, options.abnormal_words)
        )
        self.stages = nn.ModuleDict(
            {
                str(tap): BiCMCI(
                    backbone.width,
                    backbone.joint_width,
                    options.width,
                    options.heads,
                    options.deform_groups,
                    options.deform_stride,
                    options.deform_kernel,
                    options.temperature,
                    options.output_space == "clip",
                )
                for tap in backbone.quarters
            }
        )
        self.adapter = ConvAdapter(backbone.joint_width, options.bottleneck, options.adapter_residual)
        self._text: dict[str, Tensor] = {}  # text vectors of the classes, once training is over
        self._knowledge: dict[str, Tensor] = {}

    @classmethod
    def streams(cls, options: Strict, taps: tuple[int, ...], layers: int) -> Streams:
        """The V-V stream at the four stages."""
        return Streams(local=taps)

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score a batch with the trained parts."""
        return self._output(batch, per_class(batch.class_names, self._cached_text))

    def _output(self, batch: Batch, text: Tensor) -> AnomalyOutput:
        grid, size = self.backbone.grid, self.backbone.config.image_size
        stages = [
            self.stages[str(tap)](tokens[:, 1:], self.backbone.project(tokens[:, 1:]), text, grid)
            for tap, tokens in batch.features.local.items()
        ]
        abnormal = torch.stack(stages).mean(0)  # equation 9: M_a (B, h, w), and M_n = 1 - M_a
        final = smooth(
            upsample(abnormal, (size, size)), scaled_sigma(self.sigma, size)
        )  # equation 10: G(M_a + 1 - M_n) / 2
        image = self.adapter(self.backbone.project(batch.features.cls))  # equation 11
        probability = two_way(image, text, self.options.temperature)
        peak = final.amax((1, 2))
        return AnomalyOutput(abnormal, probability, peak, image_score=(probability + peak) / 2)  # equation 12, halved

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Equations 13 to 15."""
        assert batch.labels is not None and batch.masks is not None
        options = self.options
        classes = list(dict.fromkeys(batch.class_names))
        text = self.prompts(self.backbone, classes)  # (n, 2, C)
        output = self._output(batch, per_class(batch.class_names, lambda _: text))
        knowledge = torch.stack([self._knowledge[name] for name in classes])
        score = output.image_score.clamp(1e-6, 1 - 1e-6)
        masks = batch.masks.float()
        size = self.backbone.config.image_size
        abnormal = upsample(output.map_probability, (size, size))
        return {
            "knowledge": options.knowledge_weight
            * knowledge_distance(knowledge, text[:, 0], text[:, 1], options.margin),
            "global": options.global_weight * F.binary_cross_entropy(score, batch.labels.float()),
            "focal": options.local_weight * focal(abnormal, masks),
            "dice_normal": options.local_weight * dice(1 - abnormal, 1 - masks),
            "dice_abnormal": options.local_weight * dice(abnormal, masks),
        }

    def learn_knowledge(self, knowledge: Mapping[str, Sequence[str]]) -> None:
        """Equation 3: the mean feature of a class's descriptions, as a unit vector."""
        self._knowledge = {
            name: F.normalize(self.backbone.encode_text(texts).mean(0), dim=-1) for name, texts in knowledge.items()
        }

    def parameter_groups(self) -> list[dict[str, object]]:
        """Prompts, and the rest."""
        rest = [*self.stages.parameters(), *self.adapter.parameters()]
        return [
            {"name": "prompts", "params": list(self.prompts.parameters()), "lr": self.options.prompt_learning_rate},
            {"name": "heads", "params": rest, "lr": self.options.learning_rate},
        ]

    def train(self, mode: bool = True) -> Self:
        """Forget the text vectors when the prompts may change."""
        self._text = {}
        return super().train(mode)

    def _cached_text(self, class_names: Sequence[str]) -> Tensor:
        for name in class_names:
            if name not in self._text:
                self._text[name] = self.prompts(self.backbone, [name])[0]
        return torch.stack([self._text[name] for name in class_names])
