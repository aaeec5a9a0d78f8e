"""Shared fixtures: a tiny backbone with random weights and a tiny dataset in MVTec layout."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig, TowerConfig
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec
from kanoclip.features import encode
from kanoclip.methods import method_class, method_names

SIDE = 32


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; programs that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # before session fixtures compute anything, because sums depend on the number of threads


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_config() -> BackboneConfig:
    """Return a CLIP with 4 x 4 patches and a ViT with 2 x 2 patches for the methods that read a second tower."""
    second = {"dino": TowerConfig(model="vit_tiny_patch16_224", weights="random:0")}
    return BackboneConfig(model="kanoclip-test", weights="random:0", image_size=SIDE, towers=second)


@pytest.fixture(scope="session")
def backbone(tiny_config: BackboneConfig) -> Backbone:
    return load_backbone(tiny_config)


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    """Write a dataset in MVTec layout: grey noise, and on anomalous images a bright square with its mask."""

    def write(root: Path, classes: tuple[str, ...] = ("nut", "bolt"), count: int = 4, masks: bool = True) -> Path:
        rng = np.random.default_rng(0)
        for name in classes:
            for defect in ("good", "spot"):
                for number in range(count):
                    image = rng.integers(80, 120, (40, 48, 3), dtype=np.uint8)
                    mask = np.zeros((40, 48), np.uint8)
                    if defect == "spot":
                        y, x = rng.integers(0, 30, 2)
                        mask[y : y + 10, x : x + 10] = 255
                        image[mask > 0] = 250
                    path = root / name / "test" / defect / f"{number:03}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(path)
                    if defect == "spot" and masks:
                        path = root / name / "ground_truth" / defect / f"{number:03}_mask.png"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        Image.fromarray(mask).save(path)
        return root

    return write


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    """Return the path of the index.csv of 16 images of two classes with masks."""
    folder = tmp_path_factory.mktemp("dataset")
    write_folder(folder / "images")
    prepare(folder_spec("parts", {}), folder / "index.csv", folder, folder / "images")
    return folder / "index.csv"


@pytest.fixture(scope="session")
def all_taps(backbone: Backbone) -> frozenset[Tap]:
    """Return one tap of each kind and every tap that a method reads by default."""
    taps = {Tap(kind, block) for kind in ("tokens", "vv") for block in backbone.quarters}
    taps |= {Tap("windows", 2), Tap("windows", 3), Tap("pixels", 32), Tap("cls", backbone.layers)}
    for kind in map(method_class, method_names()):
        taps |= kind.reads(kind.Options(), backbone.shape)
    return frozenset(taps)


@pytest.fixture(scope="session")
def features(index: Path, backbone: Backbone, all_taps: frozenset[Tap]) -> Path:
    """Return the path of the features.h5 of these images with all taps."""
    path = index.with_name("features.h5")
    encode(index, backbone, all_taps, path, batch_size=5)
    return path
