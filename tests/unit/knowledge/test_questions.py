import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanoclip.config import LlmConfig, VqaConfig
from kanoclip.datasets.index import read_index
from kanoclip.knowledge.questions import STRICTER, image_questions, jpeg_url, text_questions


def decoded(url: str) -> Image.Image:
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "JPEG"
    return image


def test_the_papers_question_about_a_class() -> None:
    questions = text_questions(["metal nut", "wood"], LlmConfig(descriptions=5))
    assert len(questions) == len({question.key for question in questions}) == 2 * 5
    system, user = questions[0].messages()
    assert user == {"role": "user", "content": "Describe what an abnormal image of metal nut looks like?"}
    assert system == {"role": "system", "content": LlmConfig().instruction}
    assert questions[0].messages(stricter=True)[0]["content"] == f"{LlmConfig().instruction} {STRICTER}"


def test_without_an_instruction_only_the_question_of_the_paper_is_sent() -> None:
    (question,) = text_questions(["nut"], LlmConfig(descriptions=1, instruction=""))
    assert [message["role"] for message in question.messages()] == ["user"]
    assert question.messages(stricter=True)[0] == {"role": "system", "content": STRICTER}


def test_the_papers_question_about_an_image(index: Path) -> None:
    frame = read_index(index)
    questions = image_questions(frame, VqaConfig(image_side=24))
    assert [question.image for question in questions] == frame[frame["label"] == 1]["image"].tolist()
    text, image = questions[0].messages()[-1]["content"]
    assert text["text"] == (
        "Class: bolt. Identify anomalies in the input image of the specified class. "
        "Describe each anomaly's location, color, shape, size and other characteristics."
    )
    assert decoded(image["image_url"]["url"]).size == (24, 20)  # the image has 48 x 40 pixels


@pytest.mark.parametrize(("size", "sent"), [((900, 300), (300, 100)), ((200, 600), (100, 300)), ((30, 20), (30, 20))])
def test_images_are_sent_at_a_bounded_size(tmp_path: Path, size: tuple[int, int], sent: tuple[int, int]) -> None:
    Image.fromarray(np.full((size[1], size[0]), 200, np.uint8)).save(tmp_path / "grey.png")
    image = decoded(jpeg_url(tmp_path / "grey.png", 300))
    assert image.size == sent
    assert image.mode == "RGB"
    assert abs(float(np.asarray(image).mean()) - 200) < 2


def test_the_key_of_a_question_changes_with_everything_that_changes_its_answer(index: Path) -> None:
    frame = read_index(index)
    base = {question.key for question in text_questions(["nut"], LlmConfig())}
    asked_alike = LlmConfig(concurrency=9, timeout=1, price=(1, 2), base_url="http://elsewhere/v1")
    assert {question.key for question in text_questions(["nut"], asked_alike)} == base
    for change in (LlmConfig(model="x"), LlmConfig(instruction="x"), LlmConfig(request={"temperature": 0})):
        assert base.isdisjoint(question.key for question in text_questions(["nut"], change))
    assert base.isdisjoint(question.key for question in text_questions(["bolt"], LlmConfig()))
    small, large = (image_questions(frame, VqaConfig(image_side=side)) for side in (24, 48))
    assert {question.key for question in small}.isdisjoint(question.key for question in large)
