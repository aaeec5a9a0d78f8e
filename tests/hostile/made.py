"""Make a tiny finished run, once per process; the tests damage copies of its files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig, KnowledgeConfig
from kanoclip.datasets.index import read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import folder_spec
from kanoclip.features import encode
from kanoclip.knowledge.jsonl import write_knowledge
from kanoclip.knowledge.sources import collect
from kanoclip.metrics.evaluate import evaluate
from kanoclip.stages.dataset import Dataset
from kanoclip.stages.scoring import Scored, score_stage
from kanoclip.stages.training import train_stage

SIDE = 32


@dataclass(frozen=True)
class Made:
    """Paths of the files of a run.

    Attributes:
        index: path of index.csv; the other attributes are named like their files.
    """

    index: Path
    features: Path
    knowledge: Path
    checkpoint: Path
    scores: Path
    metrics: Path


def make(folder: Path) -> Made:
    """Draw images and run prepare, encode, train, score and evaluate."""
    names = ("index.csv", "features.h5", "knowledge.jsonl", "models/seed1/checkpoint.safetensors", "clip/scores.h5")
    made, rng = Made(*(folder / name for name in names), folder / "metrics.csv"), np.random.default_rng(0)
    for defect in ("good", "spot"):
        for number in range(3):
            image, mask = rng.integers(80, 120, (SIDE, SIDE, 3), dtype=np.uint8), np.zeros((SIDE, SIDE), np.uint8)
            if defect == "spot":
                mask[5 : 15 + number, 8:20] = 255
                image[mask > 0] = 250
                _save(mask, folder / f"images/nut/ground_truth/spot/{number}_mask.png")
            _save(image, folder / f"images/nut/test/{defect}/{number}.png")
    prepare(folder_spec("parts", {}), made.index, folder, folder / "images")
    frame = read_index(made.index)
    backbone = load_backbone(BackboneConfig(model="kanoclip-test", weights="random:0", image_size=SIDE))
    taps = [Tap("cls", 6), *(Tap("tokens", block) for block in backbone.quarters), Tap("vv", 6)]
    encode(made.index, backbone, taps, made.features)
    write_knowledge(made.knowledge, collect("parts", frame, KnowledgeConfig(), folder / "answers.jsonl"))
    data = Dataset("parts", made.index, made.features)
    options = {"epochs": 1}
    train_stage("april_gan", options, data, made.knowledge, folder / "models", [1], "cpu", folder / "store")
    score_stage([Scored("clip", "clip", folder / "clip")], data, None, "cpu", folder / "store")
    evaluate(made.scores, made.index, made.metrics, bootstrap=10)
    return made


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
