"""The typed configuration: every key, its default and the reason for it. The JSON schema is generated from here."""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kanoclip.naming import HIGHEST_SEED, Name, PlainPath, check_class_name, printable
from kanoclip.types import InputError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A group of keys that refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


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
        "a name is taken as it stands",
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


class DatasetConfig(Strict):
    """Where the images of a dataset come from and how many are used."""

    path: str | None = Field(
        None, description="a local folder, used instead of the download. Required for a dataset of your own"
    )
    limit: int | None = Field(
        None, gt=0, description="largest number of images per class and label: a fixed, seeded subset. null: all"
    )
    class_names: dict[str, str] = Field(
        default_factory=dict,
        description="name used in the prompts, by folder name. Only for a dataset of your own; default: the folder's "
        "name with spaces for underscores",
    )

    @field_validator("class_names")
    @classmethod
    def _classes_have_names(cls, names: dict[str, str]) -> dict[str, str]:
        for name in names.values():
            check_class_name(name)
        return names


class MethodConfig(BaseModel):
    """One row of the tables: a registered method with options of its own."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    method: str | None = Field(None, description="the registered method; null: the row's own name")
    recipe: Literal["protocol", "published"] = Field(
        "protocol",
        description="protocol: the common image size, class names and defaults. published: the options and "
        "the backbone of the method's own publication, unless keys of the row say otherwise",
    )
    backbone: str | None = Field(
        None, description="one of the configured backbones; null: the default one, or the recipe's"
    )
    checkpoint: str | None = Field(
        None,
        description="score with this checkpoint of `kanoclip train` instead of training; embedded: the one that is "
        "shipped, kanoclip on kanoclip-tiny. It has its options and its auxiliary dataset",
    )
    weights: Literal["trained", "published"] = Field(
        "trained",
        description="trained: by this run. published: fetched from the method's authors instead, who trained them on "
        "the auxiliary dataset; needs recipe: published",
    )

    @model_validator(mode="after")
    def _published_weights_need_their_recipe(self) -> "MethodConfig":
        if self.weights == "published" and self.recipe != "published":
            raise ValueError(f"weights: published needs recipe: published, found recipe: {self.recipe}")
        if self.weights == "published" and self.checkpoint is not None:
            raise ValueError("expected a checkpoint or weights: published, found both; leave one out")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options as written; the method checks them."""
        return dict(self.model_extra or {})


class EvaluationConfig(Strict):
    """How scores become metrics."""

    resolution: int | None = Field(
        None,
        gt=0,
        description="pixels per side at which maps are compared with masks. null: the image size, as comparable methods"
        " do",
    )
    bootstrap: int = Field(
        1000,
        ge=0,
        description="bootstrap draws for the 95 % intervals of image metrics, 0 for none. With 1000 the second digit of"
        " an interval's width is stable",
    )


class EndpointConfig(Strict):
    """An OpenAI-compatible endpoint and how it is asked."""

    base_url: str = Field(
        "https://api.openai.com/v1", description="address of the endpoint: OpenAI, Ollama, vLLM, llama.cpp"
    )
    model: str = Field("gpt-3.5-turbo", description="name of the model at the endpoint. The paper: GPT-3.5")
    key_variable: str | None = Field(
        "OPENAI_API_KEY", description="environment variable with the API key; null: a server without keys"
    )
    instruction: str = Field(
        "Answer with one plain English sentence of at most 40 words, without introduction.",
        description="system message; the paper gives none, but CLIP reads 77 tokens. '': none is sent",
    )
    request: dict[str, Any] = Field(
        default_factory=lambda: {"max_tokens": 150},
        description="further fields of every request, as the endpoint names them (temperature, seed, ...)",
    )
    concurrency: int = Field(4, gt=0, description="largest number of requests at the same time")
    requests_per_minute: int | None = Field(None, gt=0, description="largest number, retries included; null: no limit")
    timeout: float = Field(60.0, gt=0, description="seconds without any data after which a request has failed")
    retries: int = Field(
        6,
        ge=0,
        description="retries of a request that failed for the moment (429, 5xx, time-out), with exponential back-off "
        "and jitter",
    )
    price: tuple[float, float] | None = Field(
        None, description="price of a million tokens of questions, and of answers, to estimate the cost; null: unknown"
    )


class LlmConfig(EndpointConfig):
    """The language model that describes classes."""

    descriptions: int = Field(5, gt=0, description="answers per class (paper, section 3.1: n = 5)")


class VqaConfig(EndpointConfig):
    """The model that describes images."""

    base_url: str = Field(
        "http://localhost:11434/v1", description="address of the endpoint; default: Ollama on this machine"
    )
    model: str = Field(
        "llama3.2-vision",
        description='name of the model at the endpoint. The paper\'s "Llama3" reads no images; this one does',
    )
    key_variable: str | None = Field(None, description="as for llm")
    image_side: int = Field(
        512, gt=0, description="largest number of pixels of the longer side, as sent: one tile of OpenAI's"
    )


class KnowledgeConfig(Strict):
    """What describes the anomalies of the auxiliary dataset (paper, section 2.2)."""

    sources: tuple[Literal["curated", "mask", "llm", "vqa"], ...] = Field(
        ("curated", "mask"),
        min_length=1,
        description="curated: shipped sentences; mask: one sentence per image, from its mask; llm and vqa: the paper's "
        "questions to language models. Default: the two that need no network and give the same everywhere",
    )
    llm: LlmConfig = Field(LlmConfig(), description="the model asked about classes")
    vqa: VqaConfig = Field(VqaConfig(), description="the model asked about images")


class PretrainingConfig(Strict):
    """How long and on what the embedded backbone is trained. Raise its last steps to continue a finished run."""

    pairs: int = Field(24_000, gt=0, description="number of normal training images, and of anomalous ones")
    text_steps: int = Field(900, gt=0, description="optimiser steps of the text tower")
    small_steps: int = Field(2_000, gt=0, description="steps of the image tower on half-size images, 64 per step")
    large_steps: int = Field(2_000, gt=0, description="steps on whole images, 32 per step")
    mixed_steps: int = Field(
        6_000, ge=0, description="steps on whole images in pairs that are blended and recoloured, 32 per step"
    )
    photographs: PlainPath | None = Field(
        None,
        description="a folder of photographs without defects, such as DTD and ImageNet samples: defects are put into "
        "them. Without it the last stages see drawn images only",
    )
    composite_pairs: int = Field(12_000, gt=0, description="pairs of composites on the photographs")
    real_small_steps: int = Field(
        0,
        ge=0,
        description="steps on half-size views of drawn pairs and composites, real_batch per step. 0: not part of the "
        "shipped weights; trainings so far ended below their start on held-out images",
    )
    real_large_steps: int = Field(
        0, ge=0, description="steps on whole ones, half of real_batch per step. 0: for the same reason"
    )
    real_batch: int = Field(64, gt=0, multiple_of=16, description="images per step; more on a GPU")
    teacher_steps: int = Field(
        0,
        ge=0,
        description="last of all, steps on whole images beside a teacher with ImageNet features (EfficientNet-Lite0, "
        "the extra `teacher`); needs photographs",
    )
    teacher_batch: int = Field(32, gt=0, multiple_of=16, description="images per step beside the teacher")
    start: Literal["nothing", "embedded"] = Field(
        "nothing",
        description="embedded: continue from the weights in the package with the last stages only, those with "
        "photographs, instead of training everything",
    )
    validation_pairs: int = Field(336, gt=0, description="approximate number of pairs in each validation set")
    processes: int = Field(1, gt=0, description="processes that draw images in parallel")
    seed: int = Field(0, ge=0, description="random seed of everything")


class Configuration(Strict):
    """A whole benchmark run."""

    run: str = Field(
        "paper", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="name of the run: results go to results/<run>"
    )
    folder: PlainPath | None = Field(
        None,
        description="a folder of your own images: short for a dataset of its name as the only target, and for a run "
        "named after the folder and a checksum of its path",
    )
    class_name: str | None = Field(
        None, description="what the images of `folder` show, for the prompts; null: its name. For folders of one class"
    )
    resources: PlainPath = Field(
        "resources", description="folder for downloaded archives and the images unpacked from them"
    )
    backbones: dict[Name, BackboneConfig] = Field(
        default_factory=lambda: {"clip-l14-518": BackboneConfig()},
        description="name: model and settings. The name appears in paths and tables",
    )
    backbone: str = Field("clip-l14-518", description="the backbone of every row that names none")
    auxiliary: Name = Field("mvtec_ad", description="dataset whose test split, with masks, trains the methods")
    auxiliary_for: dict[Name, Name] = Field(
        default_factory=lambda: {"mvtec_ad": "visa"},
        description="another auxiliary dataset by target. The paper's MVTec-AD row can only be read as trained on VisA",
    )
    allow_seen: bool = Field(
        False,
        description="allow a target equal to its auxiliary dataset; such cells are marked as not zero-shot. false "
        "refuses it",
    )
    targets: tuple[Name, ...] = Field(
        (), description="datasets that are scored, in the order of the tables. At least one, unless there is a `folder`"
    )
    methods: dict[Name, MethodConfig] = Field(min_length=1, description="rows of the tables: name: options")
    only: tuple[str, ...] = Field(
        (), description="run these rows of `methods` and no others: `--config 'only=[kanoclip]'`. Empty: all rows"
    )
    cache: tuple[Literal["auxiliary", "targets"], ...] = Field(
        ("auxiliary",),
        description="datasets whose features are stored. auxiliary: read in every epoch of every training. targets: "
        "worth it only where a method is developed on a CPU; otherwise their images go through the tower once, with "
        "every row, and nothing is stored",
    )
    ablations: dict[Name, dict[Name, MethodConfig]] = Field(
        default_factory=dict,
        description="name of a table: its rows in order, written as under methods; an empty row is the one "
        "of that name under methods. Rows called baseline, knpl, clip_vv, bi_cmci and conv_adapter (or kanoclip) stand "
        "beside what the paper's Table 3 prints. They run with `snakemake ablation`",
    )
    seeds: tuple[Annotated[int, Field(ge=0, le=HIGHEST_SEED)], ...] = Field(
        (111, 112, 113), min_length=1, description="one training per seed. 111 is the seed of the paper's peers"
    )
    threshold_folds: int = Field(
        1,
        ge=0,
        description="further trainings per row that choose the threshold of its decisions, for all seeds together: "
        "each leaves out another part of the auxiliary classes, 1 leaves out half of them. 1 costs half a training, 2 "
        "or more use every class and cost that number less one. 0: no thresholds, so f1_auxiliary and fpr_auxiliary "
        "are empty",
    )
    datasets: dict[Name, DatasetConfig] = Field(
        default_factory=dict, description="settings of shipped datasets, and datasets of your own (path required)"
    )
    knowledge: KnowledgeConfig = Field(KnowledgeConfig(), description="what describes anomalies, for training")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how scores become metrics")
    pretraining: PretrainingConfig = Field(
        PretrainingConfig(), description="of the embedded backbone, with `snakemake pretrain`"
    )

    @model_validator(mode="before")
    @classmethod
    def _folder_is_a_target(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("folder"), str):
            return values
        path = os.path.normpath(values["folder"])
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).name)[:50].strip("_-") or "images"
        names = {} if values.get("class_name") is None else {name: values["class_name"]}
        run = f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:4]}"
        dataset = {"path": path, "class_names": names}
        others = values.get("datasets") or {}
        return {"run": run, **values, "targets": [name], "datasets": {**others, name: dataset}}

    @model_validator(mode="after")
    def _something_is_scored(self) -> Self:
        if not self.targets:
            raise ValueError("expected targets, or a folder, found none of them; name at least one dataset")
        return self

    @field_validator("backbones")
    @classmethod
    def _own_models_show_in_tables(cls, backbones: dict[str, BackboneConfig]) -> dict[str, BackboneConfig]:
        for name, backbone in backbones.items():
            if backbone.model.startswith("kanoclip-") and not name.startswith(backbone.model):
                raise ValueError(
                    f"the name '{name}' must begin with '{backbone.model}', so that tables say what made the numbers"
                )
        return backbones

    @field_validator("targets", "seeds", "only")
    @classmethod
    def _named_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice")
        return values

    @field_validator("methods", "datasets", mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: {} if entry is None else entry for key, entry in value.items()}

    @field_validator("ablations", mode="before")
    @classmethod
    def _empty_rows_too(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {table: cls._empty_means_defaults(rows) for table, rows in value.items()}


def parse(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Validate values against a model.

    Args:
        model: the group of keys.
        values: as read from YAML or the command line.
        where: what the values belong to, for the message.

    Raises:
        InputError: the first problem in one line; a misspelt key names the nearest valid one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = printable(".".join(str(part) for part in problem["loc"] if part != "[key]"))
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: unknown key '{place}'; {_nearest_key(model, problem['loc'])}") from None
        message = printable(problem["msg"], 500).removeprefix("Value error, ")
        if not place:  # of several keys together: the message names them and what was found
            raise InputError(f"{where}: {message}") from None
        found = "" if problem["type"] == "missing" else f", found {printable(repr(problem['input']))}"
        raise InputError(f"{where}: '{place}': {message[0].lower()}{message[1:]}{found}") from None


def _nearest_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return a hint for the last part of a location: the nearest key of its group."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:  # a name that the user chose (a dataset, a backbone): the group stays
            continue
        nested = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(model.model_fields)}"
