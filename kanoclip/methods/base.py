"""The contract of a method, and the registry. A new method is one file in this folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.streams import ImageFeatures, Streams
from kanoclip.config import Strict
from kanoclip.types import unknown_name


class TrainingOptions(Strict):
    """What every trainable method's options begin with."""

    epochs: int = Field(
        15, gt=0, description="passes over the auxiliary dataset: AnomalyCLIP's. The last is used, always"
    )
    batch_size: int = Field(8, gt=0, description="images a step: AnomalyCLIP's")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rates over the steps; no peer lets them decay"
    )
    warm_up_steps: int = Field(0, ge=0, description="of a linear rise of the learning rates; no peer has one")


@dataclass(frozen=True)
class Batch:
    """B images on their way through a method.

    Attributes:
        images: (B,) names as in index.csv.
        class_names: (B,) names for the prompts.
        features: of the streams that the method asked for.
        labels: (B,) 0 normal, 1 anomalous; only in training and for controls.
        masks: (B, S, S) bool at the image size, False throughout for normal images; likewise.
    """

    images: Sequence[str]
    class_names: Sequence[str]
    features: ImageFeatures
    labels: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class AnomalyOutput:
    """What a method says about B images.

    Attributes:
        map_probability: (B, h, w) in 0..1, higher is more anomalous, before smoothing.
        image_probability: (B,) in 0..1, from the global feature.
        map_score: (B,) in 0..1, the maximum of the final anomaly map.
        image_score: (B,) in 0..1, what the image is ranked by.
    """

    map_probability: Tensor
    image_probability: Tensor
    map_score: Tensor
    image_score: Tensor


class Method(nn.Module):
    """A zero-shot anomaly detector on top of cached features.

    Subclasses set the class attributes, say what they need (`streams`) and compute (`forward`). A trainable one adds
    `losses`. Its parameters that require gradients are what a checkpoint holds.

    Attributes:
        Options: the method's own configuration keys with defaults; of a trainable one a kind of `TrainingOptions`.
        trainable: whether it is trained on an auxiliary dataset.
        stochastic: whether seeds change it.
        control: whether it is a control (oracle, random), not a competitor.
        sees_truth: whether scoring hands it labels and masks; for controls only.
        published: the options of its own publication; what is not named keeps its default.
        published_backbone: the backbone's keys in its own publication, likewise.
        sigma: Gaussian smoothing of its final maps, in pixels at 518; 0 for none.
    """

    Options: ClassVar[type[Strict]] = Strict
    trainable: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    control: ClassVar[bool] = False
    sees_truth: ClassVar[bool] = False
    published: ClassVar[Mapping[str, Any]] = {}
    published_backbone: ClassVar[Mapping[str, Any]] = {}
    sigma: float = 0.0

    def __init__(self, backbone: Backbone, options: Strict, seed: int):
        super().__init__()
        self.backbone = backbone
        self.seed = seed

    @classmethod
    def streams(cls, options: Strict, taps: tuple[int, ...], layers: int) -> Streams:
        """The tokens it reads, given the backbone's taps and its number of blocks."""
        return Streams()

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score a batch; the scores of an image do not depend on the others in it."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def learn_knowledge(self, knowledge: Mapping[str, Sequence[str]], images: Mapping[str, Sequence[str]] = {}) -> None:
        """Take what is known about the auxiliary dataset's anomalies, before training. Most methods need none.

        Args:
            knowledge: class name: descriptions, those of its images among them.
            images: image: descriptions of it alone; of those that have any.
        """

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The parts of the training loss, weighted, by name; their sum is minimised."""
        raise TypeError(f"{type(self).__name__} is not trainable")

    def diagnostics(self) -> dict[str, float]:
        """What else train.csv should say of the step whose losses were computed last, by the name of its column."""
        return {}

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups for the optimiser, each with its name and lr."""
        raise TypeError(f"{type(self).__name__} is not trainable")

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is learned; the backbone stays frozen in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def learned(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


_METHODS: dict[str, type[Method]] = {}
M = TypeVar("M", bound=type[Method])


def register(name: str) -> Callable[[M], M]:
    """Class decorator: make a method known by the name used in configurations, paths and tables."""

    def add(method: M) -> M:
        if name in _METHODS:
            raise ValueError(f"two methods are called {name}: {_METHODS[name].__module__} and {method.__module__}")
        _METHODS[name] = method
        return method

    return add


def method_names() -> list[str]:
    """Every registered method."""
    return sorted(_METHODS)


def method_class(name: str) -> type[Method]:
    """The method of a name.

    Raises:
        InputError: there is none.
    """
    if name not in _METHODS:
        raise unknown_name("method", name, _METHODS)
    return _METHODS[name]


def per_class(class_names: Sequence[str], vectors: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """Compute something once a class and hand it out to images.

    Args:
        class_names: (B,) with repetitions.
        vectors: n distinct names to (n, ...).

    Returns:
        (B, ...).
    """
    distinct = list(dict.fromkeys(class_names))
    return vectors(distinct)[torch.tensor([distinct.index(name) for name in class_names])]


def log_odds(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Log-odds of abnormal: the difference of the two cosine similarities.

    Args:
        features: (B, ..., C) unit vectors.
        text: (B, 2, C) unit vectors, normal then abnormal.
        temperature: divides the similarities.

    Returns:
        (B, ...), any value; linear in the similarities, so it may be upsampled before `sigmoid`.
    """
    return torch.einsum("b...c,bc->b...", features, text[:, 1] - text[:, 0]) / temperature


def two_way(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Probability of abnormal in 0..1: softmax over the similarities with the two polarities. As `log_odds`."""
    return log_odds(features, text, temperature).sigmoid()
