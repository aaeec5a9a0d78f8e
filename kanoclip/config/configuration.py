"""The keys of a run: its datasets, the rows of its tables and how scores become metrics."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kanoclip.config.backbone import BackboneConfig
from kanoclip.config.knowledge import KnowledgeConfig
from kanoclip.config.pretraining import PretrainingConfig
from kanoclip.config.strict import Strict
from kanoclip.naming import HIGHEST_SEED, Name, PlainPath, check_class_name

SPECS = Path(__file__).parents[1] / "datasets" / "specs"  # named by file; config is below kanoclip.datasets


class DatasetConfig(Strict):
    """Where the images of a dataset come from and how many are used."""

    path: str | None = Field(
        None, description="a local folder, used instead of the download. Required for a dataset of your own"
    )
    limit: int | None = Field(
        None, gt=0, description="maximum number of images per class and label, a fixed, seeded subset. null: all"
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
        description="score with this checkpoint of `kanoclip train` instead of training; embedded: the shipped one, "
        "kanoclip on kanoclip-tiny. Options and auxiliary dataset are those of the checkpoint",
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


class Configuration(Strict):
    """A whole benchmark run."""

    run: str = Field(
        "paper", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="name of the run: results go to results/<run>"
    )
    folder: PlainPath | None = Field(
        None,
        description="a folder of your own images: shorthand for a dataset of its name (with _folder added if a shipped "
        "dataset has it) as the only target, and a run named after it and a checksum of its path",
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
    shown_rows: int = Field(
        24,
        ge=2,
        description="maximum number of rows of `methods` in the figures and in the gallery of the page; if there are "
        "more, the first ones and the last, which picks the images. Tables have all rows. Figures have a panel per "
        "class and row: 24 rows on 12 datasets take about ten minutes to draw",
    )
    threshold_folds: int = Field(
        1,
        ge=0,
        description="number of extra trainings per row, shared by all seeds, that choose the threshold of its "
        "decisions. Each leaves out another part of the auxiliary classes; 1 leaves out half of them and costs half "
        "a training, n > 1 use every class and cost n - 1 trainings. 0: no thresholds, so f1_auxiliary and "
        "fpr_auxiliary are empty",
    )
    datasets: dict[Name, DatasetConfig] = Field(
        default_factory=dict, description="settings of shipped datasets, and datasets of your own (path required)"
    )
    knowledge: KnowledgeConfig = Field(
        KnowledgeConfig(), description="sources of the descriptions of anomalies that methods are trained with"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how metrics are computed from scores")
    pretraining: PretrainingConfig = Field(
        PretrainingConfig(), description="recipe of the embedded backbone, for `snakemake pretrain`"
    )

    @model_validator(mode="before")
    @classmethod
    def _folder_is_a_target(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("folder"), str):
            return values
        path = os.path.normpath(values["folder"])
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).name)[:50].strip("_-") or "images"
        if (SPECS / f"{name}.yaml").is_file():  # a shipped dataset has a layout of its own
            name = f"{name}_folder"
        run = f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:4]}"
        others = values.get("datasets") or {}
        dataset = {**(others.get(name) or {}), "path": path}
        if values.get("class_name") is not None:
            dataset["class_names"] = {name: values["class_name"]}
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
        if "metrics" in value:
            raise ValueError("no ablation can be called metrics, the name of a file beside its table; rename it")
        return {table: cls._empty_means_defaults(rows) for table, rows in value.items()}
