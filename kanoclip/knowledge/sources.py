"""The sources of descriptions: texts shipped with the package, masks and language models."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kanoclip.config import KnowledgeConfig
from kanoclip.datasets.index import load_image, load_mask
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.knowledge.describe import describe
from kanoclip.knowledge.interview import interview
from kanoclip.knowledge.jsonl import Description, State
from kanoclip.knowledge.questions import image_questions, text_questions
from kanoclip.types import logger

CURATED = Path(__file__).parent / "curated"  # <dataset>.yaml; generic.yaml for all other classes
ANY_CLASS = "{}"
STATES: tuple[State, ...] = ("abnormal", "normal")


def collect(dataset: str, frame: pd.DataFrame, config: KnowledgeConfig, answers: Path) -> list[Description]:
    """Return the descriptions of a dataset from the configured sources, in order.

    Args:
        dataset: its name.
        frame: its index, from `read_index`.
        config: the sources, and the endpoints of models.
        answers: the file of model answers; created when a model is asked, and only appended to.

    Raises:
        InputError: an image or mask cannot be read, or a model cannot be asked; the answers so far are kept.
    """
    if not {"mask", "vqa"}.isdisjoint(config.sources):
        check_unchanged(frame[frame["label"] == 1])
    class_names = frame["class_name"].unique().tolist()
    descriptions: list[Description] = []
    for source in config.sources:
        if source == "curated":
            descriptions += curated(dataset, class_names)
        elif source == "mask":
            descriptions += from_masks(frame)
        elif source == "llm":
            descriptions += interview(text_questions(class_names, config.llm), config.llm, answers)
        else:
            descriptions += interview(image_questions(frame, config.vqa), config.vqa, answers)
    return descriptions


def curated(dataset: str, class_names: Sequence[str]) -> list[Description]:
    """Return the shipped descriptions of a dataset's classes; a class without its own gets the generic ones.

    Args:
        dataset: name of the dataset.
        class_names: as in its index.csv.
    """
    own = _curated_file(dataset)
    descriptions = []
    for name in class_names:
        if name not in own:
            logger.info("%s: no curated text for '%s'; taking the generic sentences", dataset, name)
        texts = own.get(name) or _curated_file("generic")[ANY_CLASS]
        for state in STATES:
            descriptions += [Description(name, "curated", text.format(name), state) for text in texts[state]]
        descriptions.append(Description(name, "curated", texts["background"].format(name), "background"))
    return descriptions


def from_masks(frame: pd.DataFrame) -> list[Description]:
    """Return one sentence per anomalous image with a mask, which describes the marked region.

    Args:
        frame: rows from `read_index`.
    """
    rows = frame[(frame["label"] == 1) & (frame["mask_path"] != "")]
    descriptions = []
    columns = (rows[name] for name in ("image", "class_name", "image_path", "mask_path"))
    for name, class_name, image_path, mask_path in zip(*columns, strict=True):
        image = load_image(image_path)
        mask = load_mask(mask_path, image.size)
        if mask.any():
            text = describe(np.asarray(image), mask, class_name)
            descriptions.append(Description(class_name, "mask", text, image=name))
    without = int((frame["label"] == 1).sum()) - len(descriptions)
    if without:
        logger.info("mask: %d anomalous images have no mask and no description", without)
    return descriptions


@cache
def _curated_file(name: str) -> dict[str, dict[str, Any]]:
    path = CURATED / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
