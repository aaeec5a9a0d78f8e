"""The typed configuration: every key, its default and the reason for it. The JSON schema is generated from here."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kanoclip.types import InputError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A group of keys that knows all its keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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
        518, gt=0, description="pixels a side; images are squashed to a square. The paper is silent; its peers use 518"
    )
    taps: tuple[int, ...] | None = Field(
        None,
        description="blocks whose tokens serve as the four stages, counted from 1. null: the four quarters of the "
        "tower (6, 12, 18, 24 of 24), as the paper's peers do",
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
        "naming one insists on it",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the frozen image tower. auto: bf16 on a GPU that has it, else fp16; fp32 on a CPU"
    )
    position_resize: Literal["bicubic_antialias", "bicubic", "bilinear"] = Field(
        "bicubic_antialias",
        description="how the position table is resized to the image size: open_clip's way; bilinear is AnomalyCLIP's",
    )

    @field_validator("taps")
    @classmethod
    def _taps_ascend(cls, taps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if taps is not None and (not taps or taps[0] < 1 or list(taps) != sorted(set(taps))):
            raise ValueError("must be block numbers from 1, ascending, without repetition")
        return taps


class DatasetConfig(Strict):
    """Where a dataset's images come from and how many are taken."""

    path: str | None = Field(
        None, description="a local folder, used instead of the download. Required for a dataset of your own"
    )
    limit: int | None = Field(
        None, gt=0, description="at most so many images a class and label: a fixed, seeded subset. null takes all"
    )
    class_names: dict[str, str] = Field(
        default_factory=dict,
        description="folder name: name used in the prompts. Only for a dataset of your own; default: the folder's "
        "name with underscores as spaces",
    )


class MethodConfig(BaseModel):
    """One row of the tables: a registered method with options of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = Field(None, description="the registered method; null: the row's own name")
    backbone: str | None = Field(None, description="one of the configured backbones; null: the default one")

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options as written; the method checks them."""
        return dict(self.model_extra or {})


class EvaluationConfig(Strict):
    """How scores become metrics."""

    resolution: int | None = Field(
        None, gt=0, description="pixels a side at which maps meet masks. null: the image size, as the paper's peers do"
    )


class Configuration(Strict):
    """A whole benchmark run."""

    run: str = Field(
        "paper", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="name of the run: results go to results/<run>"
    )
    resources: str = Field("resources", description="folder for downloaded archives and the images unpacked from them")
    backbones: dict[str, BackboneConfig] = Field(
        default_factory=lambda: {"clip-l14-518": BackboneConfig()},
        description="name: model and settings. The name appears in paths and tables",
    )
    backbone: str = Field("clip-l14-518", description="the backbone of every method that names none")
    auxiliary: str = Field("mvtec_ad", description="dataset whose test split, with masks, trains the methods")
    auxiliary_for: dict[str, str] = Field(
        default_factory=lambda: {"mvtec_ad": "visa"},
        description="target: another auxiliary dataset. The paper's MVTec-AD row can only be read as trained on VisA",
    )
    allow_seen: bool = Field(
        False,
        description="allow a target equal to its auxiliary dataset; such cells are marked as not zero-shot. false "
        "refuses it",
    )
    targets: tuple[str, ...] = Field(min_length=1, description="datasets that are scored, in the order of the tables")
    methods: dict[str, MethodConfig] = Field(min_length=1, description="rows of the tables: name: options")
    seeds: tuple[int, ...] = Field(
        (111, 112, 113), min_length=1, description="one training a seed. 111 is the seed of the paper's peers"
    )
    datasets: dict[str, DatasetConfig] = Field(
        default_factory=dict, description="settings of shipped datasets, and datasets of your own (path required)"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how scores become metrics")

    @field_validator("backbones")
    @classmethod
    def _own_models_show_in_tables(cls, backbones: dict[str, BackboneConfig]) -> dict[str, BackboneConfig]:
        for name, backbone in backbones.items():
            if backbone.model.startswith("kanoclip-") and not name.startswith(backbone.model):
                raise ValueError(
                    f"the name '{name}' must begin with '{backbone.model}', so that tables say what made the numbers"
                )
        return backbones

    @field_validator("methods", "datasets", mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: {} if entry is None else entry for key, entry in value.items()}


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
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: unknown key '{place}'; {_nearest_key(model, problem['loc'])}") from None
        message = problem["msg"].removeprefix("Value error, ")
        found = "" if problem["type"] == "missing" else f", found {problem['input']!r}"
        raise InputError(f"{where}: '{place}': {message[0].lower()}{message[1:]}{found}") from None


def _nearest_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """A hint for the last part of a location: the nearest key of the group it was found in."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:  # a name that the user chose (a dataset, a backbone): the group stays
            continue
        nested = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(model.model_fields)}"
