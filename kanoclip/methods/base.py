"""The contract of a method, and the registry. A new method is one file in this folder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.shape import TowerShape
from kanoclip.backbones.taps import Tap
from kanoclip.config import Strict
from kanoclip.methods.batch import AnomalyOutput, Batch, ClassScores
from kanoclip.methods.phases import Phase
from kanoclip.types import InputError, unknown_name

__all__ = [
    "AnomalyOutput",
    "Batch",
    "ClassScores",
    "Method",
    "log_odds",
    "method_class",
    "method_names",
    "per_class",
    "register",
    "two_way",
]

MethodOptions = TypeVar("MethodOptions", bound=Strict)


class Method(nn.Module, Generic[MethodOptions]):
    """A zero-shot anomaly detector on top of frozen towers.

    A subclass names its options (`class Clip(Method[ClipOptions])`), sets the class attributes, and implements `reads`
    (the taps it needs) and `forward`. A trainable one adds `phases`. Features may come from a cache or live from a
    tower; a method cannot tell which.

    Attributes:
        Options: its configuration keys with defaults; a subclass of `TrainingOptions` for a trainable method.
        trainable: whether it is trained on an auxiliary dataset.
        stochastic: whether its scores depend on the seed; those of a trainable method do.
        control: whether it is a control (oracle, random) instead of a competitor.
        sees_truth: whether it gets labels and masks in scoring; for controls only.
        published: the options of its own publication; other keys keep their defaults.
        published_on: auxiliary dataset to the options that the publication changes for it.
        published_backbone: the backbone keys of its own publication; other keys keep their defaults.
        not_exportable: why it cannot be exported to ONNX; empty for most methods.
        sigma: Gaussian smoothing of its final maps, in pixels at 518; 0 for none.
    """

    Options: ClassVar[type[Strict]] = Strict
    trainable: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    control: ClassVar[bool] = False
    sees_truth: ClassVar[bool] = False
    published: ClassVar[Mapping[str, Any]] = {}
    published_on: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    published_backbone: ClassVar[Mapping[str, Any]] = {}
    not_exportable: str = ""
    sigma: float = 0.0

    def __init_subclass__(cls, **keywords: Any):
        """Set `Options` from the type parameter of the base class, and `stochastic` if it is trainable."""
        super().__init_subclass__(**keywords)
        if cls.trainable:
            cls.stochastic = True
        for base in cls.__dict__.get("__orig_bases__", ()):
            named = [part for part in get_args(base) if isinstance(part, type) and issubclass(part, Strict)]
            if named:
                cls.Options = named[0]

    def __init__(self, backbone: Backbone, options: MethodOptions, seed: int):
        super().__init__()
        self.backbone = backbone
        self.options = options
        self.seed = seed

    @classmethod
    def reads(cls, options: MethodOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the taps that it reads, given the shape of CLIP's image tower."""
        return frozenset()

    @classmethod
    def trains_on(cls, options: MethodOptions, tower: TowerShape) -> frozenset[Tap]:
        """Return the taps of unaugmented images that its training reads, which can be cached; default: all it reads."""
        return cls.reads(options, tower)

    @classmethod
    def marks(cls, options: MethodOptions) -> frozenset[str]:
        """Return the marks beside the row's name in tables, "transductive" or "extension"; empty for most rows.

        A transductive row uses other target images to score an image; an extension is not an anomaly detector in its
        own paper.
        """
        return frozenset()

    def forward(self, batch: Batch) -> AnomalyOutput:
        """Score a batch; the scores of an image do not depend on the other images."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def after_class(self, maps: NDArray[np.float32], scores: NDArray[np.float32]) -> ClassScores | None:
        """Return the final scores of a class at the end of a pass, or None to keep those of `forward`.

        It is called once per class of the target with all images of the class. A row for which it returns scores is
        transductive, and must say so in `marks`.

        Args:
            maps: (n, h, w) as returned by `forward`; may be backed by a large file.
            scores: (n,) as returned by `forward`.
        """
        return None

    def phases(self) -> Sequence[Phase]:
        """Return the phases of its training, in order; none for a training-free method."""
        return ()

    @classmethod
    def from_published(cls, files: Sequence[Any]) -> dict[str, Tensor]:
        """Translate published weights to the parameters that `learned` names.

        Args:
            files: the content of each published file as torch loads it: containers, numbers and tensors only.

        Returns:
            The learned parameters by name; empty ones, such as deep prompts of depth 0, may be left out.

        Raises:
            InputError: the files have another layout, or no layout is known.
        """
        raise InputError(f"{cls.__name__}: no published layout is known")

    def learn_knowledge(self, knowledge: Mapping[str, Sequence[str]], images: Mapping[str, Sequence[str]] = {}) -> None:
        """Receive descriptions of the auxiliary dataset's anomalies before training; most methods ignore them.

        Args:
            knowledge: descriptions by class name, including those of single images.
            images: descriptions by image, for images that have any.
        """

    def diagnostics(self) -> dict[str, float]:
        """Return additional columns of train.csv for the latest step, by name."""
        return {}

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the learned modules; the backbone stays frozen in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def learned(self) -> dict[str, nn.Parameter]:
        """Return the parameters of a checkpoint: all except the backbone's, whether or not they require gradients."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("backbone.")}


_METHODS: dict[str, type[Method[Any]]] = {}
M = TypeVar("M", bound=type[Method[Any]])


def register(name: str) -> Callable[[M], M]:
    """Register the decorated class under the name used in configurations, paths and tables."""

    def add(method: M) -> M:
        if name in _METHODS:
            raise ValueError(f"two methods are called {name}: {_METHODS[name].__module__} and {method.__module__}")
        _METHODS[name] = method
        return method

    return add


def method_names() -> list[str]:
    """Return the names of all registered methods."""
    return sorted(_METHODS)


def method_class(name: str) -> type[Method[Any]]:
    """Return the class of a method by its name.

    Raises:
        InputError: there is no such method.
    """
    if name not in _METHODS:
        raise unknown_name("method", name, _METHODS)
    return _METHODS[name]


def per_class(class_names: Sequence[str], vectors: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """Compute vectors once per distinct class and expand them to images.

    Args:
        class_names: (B,) with repetitions.
        vectors: returns (n, ...) for n distinct names.

    Returns:
        (B, ...).
    """
    distinct = list(dict.fromkeys(class_names))
    return vectors(distinct)[torch.tensor([distinct.index(name) for name in class_names])]


def log_odds(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return the log-odds of abnormal: the difference of the two cosine similarities, divided by the temperature.

    Args:
        features: (B, ..., C) unit vectors.
        text: (B, 2, C) unit vectors, normal then abnormal.
        temperature: divides the similarities.

    Returns:
        (B, ...), unbounded; linear in the similarities, so it may be upsampled before `sigmoid`.
    """
    return torch.einsum("b...c,bc->b...", features, text[:, 1] - text[:, 0]) / temperature


def two_way(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return the probability of abnormal in 0..1: a softmax over the two similarities. Arguments as of `log_odds`."""
    return log_odds(features, text, temperature).sigmoid()
