"""The options of KAnoCLIP. Each description states the choice and its reason (docs/reading-the-paper.md)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from kanoclip.methods.phases import TrainingOptions


class KAnoCLIPOptions(TrainingOptions):
    """Options of KAnoCLIP. Printed in the paper: prompt_length, the words, the loss weights of 1, margin 0."""

    # Table 3: which of the four components are enabled
    knowledge_prompts: bool = Field(
        True,
        description="KnPL. false: the two hand-written prompts of the method clip, and no knowledge loss (Table 3)",
    )
    local_stream: bool = Field(
        True, description="CLIP-VV: patches of the V-V stream. false: of the original stream (Table 3)"
    )
    bi_cmci: bool = Field(
        True,
        description="Bi-CMCI. false: patches are compared with the text in CLIP's joint space, nothing learned (Table "
        "3)",
    )
    unfused_taps: Literal["last", "all"] = Field(
        "last",
        description="without Bi-CMCI, the taps whose patches are compared with the text; the paper does not say. last: "
        "CLIP's projection was trained on the last block, and nothing learned brings the others to the "
        "joint space; all: every tap",
    )
    conv_adapter: bool = Field(True, description="Conv-Adapter. false: the global feature as it is (Table 3)")

    # KnPL, section 2.2
    prompt_length: int = Field(
        12, gt=0, le=64, description="learned word embeddings per polarity (paper, section 3.1); CLIP reads 77 tokens"
    )
    normal_words: tuple[str, ...] = Field(
        ("normal", "perfect"), min_length=1, description="state words of the normal prompts (paper, section 2.2)"
    )
    abnormal_words: tuple[str, ...] = Field(
        ("abnormal", "defective"), min_length=1, description="state words of the abnormal prompts (paper, section 2.2)"
    )
    prefix_per_word: bool = Field(
        False,
        description="separate learned embeddings for each state word; the paper writes one N_1 ... N_K and one "
        "A_1 ... A_K, so they seem to be shared",
    )
    object_agnostic: bool = Field(
        False, description="'object' in place of the class name, as AnomalyCLIP; the paper writes [class]"
    )
    deep_depth: int = Field(
        1,
        gt=0,
        description="text blocks with learned context tokens at their input. 1: only the first; the paper mentions no "
        "others; AnomalyCLIP: 9",
    )
    deep_length: int = Field(
        4, gt=0, description="context tokens replaced in each further block, as AnomalyCLIP. No effect at depth 1"
    )
    knowledge_form: Literal["hinge", "pull"] = Field(
        "hinge",
        description="hinge: equation 2. pull: only its first distance, whose gradient never vanishes (as KgCoOp); the "
        "hinge is 0 once the abnormal prompts are nearer to the knowledge than the normal ones",
    )
    knowledge_scope: Literal["class", "image"] = Field(
        "class",
        description="class: one mean over all descriptions of a class, equation 3. image: the image's own descriptions,"
        " or those of its class if it has none; the text says image-specific, equation 3 has no image",
    )
    margin: float = Field(0.0, ge=0, description="margin of the knowledge hinge, equation 2; 0 as printed")

    # Bi-CMCI, section 2.4
    tap_space: Literal["raw", "joint"] = Field(
        "raw",
        description="what Bi-CMCI reads. raw: the tower's tokens, since in the paper their width C_i differs from the "
        "text's; joint: their projections to CLIP's joint space",
    )
    width: int = Field(
        256, gt=0, description="d of Bi-CMCI; not given: GroundingDINO's enhancer, which has the same parts, uses 256"
    )
    heads: int = Field(8, gt=0, description="attention heads of Bi-CMCI; not given: as GroundingDINO")
    text_attention: bool = Field(True, description="self-attention between the two text vectors, which the text names")
    patch_attention: Literal["deformable", "full", "none"] = Field(
        "deformable",
        description="self-attention over the patches. deformable: as the text names it; full: over all patches; none",
    )
    deform_groups: int = Field(
        4, gt=0, description="offset groups of the deformable attention; not given: within DAT's 2 to 16"
    )
    deform_stride: int = Field(
        4, gt=0, description="patches between sampled points; not given: 10 x 10 points on a 37 x 37 grid"
    )
    deform_kernel: int = Field(
        5,
        gt=0,
        description="kernel of the offset network, odd; not given: wider than the stride, so it sees every patch",
    )
    deform_range: float | None = Field(
        None,
        gt=0,
        description="DAT's offset range factor: the largest offset, in half distances between sampled points. null: "
        "offsets reach the whole image and are clamped to it, DAT's -1",
    )
    cross_attention: Literal["two", "shared"] = Field(
        "two",
        description="two: one attention per direction, as the text says; shared: one similarity for both directions, as"
        " in GLIP and GroundingDINO",
    )
    layer_scale: float | None = Field(
        None,
        gt=0,
        description="initial factor, learned per channel, of the output of cross-attention; GroundingDINO: 1e-4. null: "
        "none, as the paper names none",
    )
    feed_forward: bool = Field(
        False, description="a feed-forward layer of 4 d on patches and text after cross-attention; the paper names none"
    )
    output_space: Literal["own", "clip"] = Field(
        "own",
        description="where Bi-CMCI compares patches with text. own: the fused tokens themselves (equation 9 as "
        "printed); clip: CLIP's joint space, the fused tokens added to those of the last tap, which starts from "
        "CLIP-VV's map and needs fewer images",
    )

    # the maps, equations 9 and 10
    norm: Literal["mean_probability", "softmax_of_mean", "min_max"] = Field(
        "mean_probability",
        description="equation 9. mean_probability: the stages' two-way softmax averaged; softmax_of_mean: the softmax "
        "of their mean similarity; min_max: each polarity's summed similarity scaled to 0..1 over the image, which "
        "hides how anomalous it is as a whole",
    )
    temperature: float = Field(
        0.07, gt=0, description="divides cosine similarities; not given: AnomalyCLIP's. Changes image scores"
    )
    sigma: float = Field(
        4.0,
        ge=0,
        description="Gaussian of equation 10 in pixels at 518, scaled with the image size; not given: AnomalyCLIP's",
    )

    # the image score, equations 11 and 12
    global_from: Literal["original", "local", "local_mean"] = Field(
        "original",
        description="the global feature. original: class token of the original stream; local: of the V-V stream "
        "(equation 8 literally), which was never trained to summarise the image; local_mean: mean of the V-V patches",
    )
    bottleneck: int = Field(
        192, gt=0, description="bottleneck width of the Conv-Adapter; not given: a quarter of CLIP's joint width 768"
    )
    adapter_residual: bool = Field(
        False,
        description="add the image feature to the Conv-Adapter's output; equation 11 prints none. true starts from "
        "CLIP's image feature and needs fewer images",
    )
    adapter_depthwise: bool = Field(
        False,
        description="a 3 x 3 depthwise convolution over the patches of the last block is added in the bottleneck, as "
        "the text says; equation 11 uses only the global feature",
    )
    image_score: Literal["sum", "probability", "max"] = Field(
        "sum",
        description="sum: equation 12, halved so that it is a probability; probability: the global probability alone "
        "(AnomalyCLIP); max: the map's maximum alone, as the overview says",
    )
    global_loss_on: Literal["score", "probability"] = Field(
        "score",
        description="what L_global is computed from. score: the image score, equation 14; probability: the global "
        "probability, so that no gradient passes through a single pixel",
    )

    # the loss, equation 15, and the optimiser
    knowledge_weight: float = Field(1.0, ge=0, description="weight of L_KD in equation 15; 1 as printed")
    global_weight: float = Field(1.0, ge=0, description="weight of L_global in equation 15; 1 as printed")
    local_weight: float = Field(1.0, ge=0, description="weight of L_local in equation 15; 1 as printed")
    prompt_learning_rate: float = Field(
        1e-3, gt=0, description="learning rate of Adam for the prompts; not given: AnomalyCLIP's"
    )
    learning_rate: float = Field(
        1e-4,
        gt=0,
        description="learning rate of Adam for Bi-CMCI and Conv-Adapter; not given: usual for attention layers",
    )

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if not (self.knowledge_prompts or self.bi_cmci or self.conv_adapter):
            raise ValueError(
                "knowledge_prompts, bi_cmci and conv_adapter are all false, so nothing can be learned; the baseline of "
                "Table 3 is the method clip"
            )
        if self.conv_adapter and self.image_score == "max" and self.global_loss_on == "score":
            raise ValueError(
                "image_score max leaves the Conv-Adapter without a loss; set conv_adapter false or global_loss_on "
                "probability"
            )
        return self

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if not self.bi_cmci:
            return self
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, found {self.width} and {self.heads}")
        if self.patch_attention != "deformable":
            return self
        if self.width % self.deform_groups:
            raise ValueError(f"width must be a multiple of deform_groups, found {self.width} and {self.deform_groups}")
        if self.deform_kernel % 2 == 0:
            raise ValueError(f"deform_kernel must be odd, found {self.deform_kernel}")
        return self

    @model_validator(mode="after")
    def _streams_are_there(self) -> Self:
        if self.global_from != "original" and not self.local_stream:
            raise ValueError(f"global_from {self.global_from} needs local_stream true; or set global_from original")
        return self

    @model_validator(mode="after")
    def _deep_prompts_fit(self) -> Self:
        if self.deep_depth > 1 and self.deep_length > self.prompt_length:
            raise ValueError(
                f"deep_length must be at most prompt_length, found {self.deep_length} and {self.prompt_length}"
            )
        return self
