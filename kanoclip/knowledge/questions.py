"""The paper's two questions to language models (section 2.2, figure 2), as chat messages."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from kanoclip.config import EndpointConfig, LlmConfig, VqaConfig
from kanoclip.datasets.index import load_image

ABOUT_A_CLASS = "Describe what an abnormal image of {} looks like?"
# the paper's sentence, after a line that names "the specified class"
ABOUT_AN_IMAGE = (
    "Class: {}. Identify anomalies in the input image of the specified class. "
    "Describe each anomaly's location, color, shape, size and other characteristics."
)
STRICTER = "Answer with exactly one English sentence of at most 25 words and nothing else."

Key = tuple[str, str, str, str, str, int]  # identity of a question: see `Question.key`


@dataclass(frozen=True)
class Question:
    """A question to a model, which is answered once.

    Attributes:
        source: "llm" or "vqa".
        class_name: as in index.csv.
        text: the question with the class filled in.
        config: the endpoint, the model and the request.
        prompt_hash: hash of the question without class and image.
        image: the image's name in index.csv; empty if the question is about the class.
        image_digest: the digest of the image's content in index.csv; empty if the question is about the class.
        image_path: the file of the image; empty if the question is about the class.
        image_side: the largest number of pixels per side with which the image is sent.
        number: which of several answers to this question, from 0.
    """

    source: str
    class_name: str
    text: str
    config: EndpointConfig
    prompt_hash: str
    image: str = ""
    image_digest: str = ""
    image_path: str = ""
    image_side: int = 0
    number: int = 0

    @property
    def key(self) -> Key:
        """The identity of the question, with the content of its image; answered questions are never asked again."""
        return self._key(self.image_digest)

    @property
    def key_by_name(self) -> Key:
        """The identity with the name of the image, by which older files of answers know the question."""
        return self._key(self.image)

    def _key(self, image: str) -> Key:
        return (self.source, self.config.model, self.prompt_hash, self.class_name, image, self.number)

    def messages(self, stricter: bool = False) -> list[dict[str, Any]]:
        """Return the messages of a chat completion; `stricter` insists on one short sentence."""
        instructions = [self.config.instruction] * bool(self.config.instruction) + [STRICTER] * stricter
        system = [{"role": "system", "content": " ".join(instructions)}] if instructions else []
        if not self.image_path:
            return [*system, {"role": "user", "content": self.text}]
        url = {"url": jpeg_url(self.image_path, self.image_side)}
        content = [{"type": "text", "text": self.text}, {"type": "image_url", "image_url": url}]
        return [*system, {"role": "user", "content": content}]

    def tokens(self) -> int:
        """Estimate the tokens of a question: four characters each, and 170 per 512-pixel tile of the image.

        The tile is OpenAI's rule at the time of GPT-4o; other models count otherwise, so this is an estimate.
        """
        tiles = math.ceil(self.image_side / 512) ** 2 if self.image_path else 0
        return (len(self.config.instruction) + len(self.text)) // 4 + 170 * tiles


def text_questions(class_names: Sequence[str], config: LlmConfig) -> list[Question]:
    """Return the questions about each class, one per wanted answer."""
    digest = _digest(ABOUT_A_CLASS, config)
    return [
        Question("llm", name, ABOUT_A_CLASS.format(name), config, digest, number=number)
        for name in class_names
        for number in range(config.descriptions)
    ]


def image_questions(frame: pd.DataFrame, config: VqaConfig) -> list[Question]:
    """Return the question about each anomalous image of an index; a normal image has no anomaly to ask about."""
    rows = frame[frame["label"] == 1]
    digest = _digest(ABOUT_AN_IMAGE, config, config.image_side)
    columns = (rows[name] for name in ("class_name", "image", "image_digest", "image_path"))
    return [
        Question("vqa", name, ABOUT_AN_IMAGE.format(name), config, digest, image, content, path, config.image_side)
        for name, image, content, path in zip(*columns, strict=True)
    ]


def jpeg_url(path: Path | str, side: int) -> str:
    """Return an image as a JPEG data URL with a longer side of at most `side` pixels."""
    image = load_image(path)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _digest(template: str, config: EndpointConfig, *details: object) -> str:
    asked = json.dumps([template, config.instruction, config.request, *details], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
