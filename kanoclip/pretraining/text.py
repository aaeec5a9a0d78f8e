"""Fit the text tower to the factorised code of captions, then lock it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.datasets.synthetic import KINDS, Caption, Facts, defects_of, describe
from kanoclip.datasets.synthetic.canvas import COLOURS
from kanoclip.datasets.synthetic.captions import (
    ABNORMAL_STATES,
    DEFECT_NOUNS,
    DEFECT_SENTENCES,
    NORMAL_SENTENCES,
    NORMAL_STATES,
    TEMPLATES,
)
from kanoclip.datasets.synthetic.render import EXTENTS, PLACES
from kanoclip.pretraining.codes import KIND, NOTHING, attributes, code_tables, codes
from kanoclip.pretraining.names import SYNONYMS, name_vectors
from kanoclip.types import progress

STAND_IN = "zzz"  # a single token that occurs in no caption; it learns to stand for any unseen word
BATCH = 128
UNNAMED, RENAMED = 0.15, 0.4  # shares of captions with an unknown class name, and with one of SYNONYMS
FULL_STOP = 0.25  # share of captions that end with a full stop, as some prompt ensembles do
LEARNING_RATE, REFIT_RATE = 2e-3, 1e-3  # from initial weights, and from a tower that was fitted before
PROMPT_TEMPLATES = (
    "{}",
    "a photo of a {}",
    "a photo of the {}",
    "a cropped photo of the {}",
    "a close-up photo of a {}",
)


@dataclass(frozen=True)
class TextBatch:
    """Texts with their attributes.

    Attributes:
        texts: T captions.
        numbers: (T, 6) attribute numbers.
        names: (T,) index into SYNONYMS of the class name's set, -1 if it is in none.
    """

    texts: list[str]
    numbers: NDArray[np.int16]
    names: NDArray[np.int16]


def random_facts(rng: np.random.Generator) -> Facts:
    """Return facts of a hypothetical image, normal in half the cases."""
    kind = str(rng.choice(list(KINDS)))
    colour = str(rng.choice(list(COLOURS)))
    if rng.random() < 0.5:
        return Facts(kind=kind, defect="good", colour=colour)
    defect = str(rng.choice(defects_of(kind)))
    return Facts(
        kind=kind, defect=defect, colour=colour, place=str(rng.choice(PLACES)), extent=str(rng.choice(EXTENTS))
    )


def text_batch(count: int, rng: np.random.Generator) -> TextBatch:
    """Return random captions, some with unknown class names or extra words, so that the tower learns to ignore them."""
    texts, numbers, names = [], [], []
    for _ in range(count):
        caption = describe(random_facts(rng), rng)
        text, said, name = caption.text, attributes(caption.facts), -1
        chance = rng.random()
        if chance < UNNAMED:
            text = _without_name(caption, rng)
            said[KIND] = NOTHING
        elif chance < UNNAMED + RENAMED:
            name = int(rng.integers(len(SYNONYMS)))
            text = caption.text.replace(caption.name, str(rng.choice(SYNONYMS[name])))
            said[KIND] = NOTHING
        if rng.random() < 0.2:
            words = text.split()
            words.insert(int(rng.integers(len(words) + 1)), STAND_IN)
            text = " ".join(words)
        texts.append(f"{text}." if rng.random() < FULL_STOP else text)
        numbers.append(said)
        names.append(name)
    return TextBatch(texts, np.stack(numbers), np.array(names, np.int16))


def _without_name(caption: Caption, rng: np.random.Generator) -> str:
    """Return a caption with its class name replaced by one to three unknown words, or by "object"."""
    name = "object" if rng.random() < 0.3 else " ".join([STAND_IN] * int(rng.integers(1, 4)))
    return caption.text.replace(caption.name, name)


def fit_text(backbone: Backbone, steps: int, seed: int, rate: float = LEARNING_RATE) -> float:
    """Fit the text tower so that the feature of a caption has the direction of its code; then lock it.

    Args:
        backbone: its text tower is changed in place.
        steps: optimiser steps, each on 128 captions.
        seed: seed of the code and of the captions.
        rate: highest learning rate.

    Returns:
        The mean cosine between features and codes over the last 20 steps.
    """
    tables = code_tables(backbone.joint_width, seed)
    names = np.concatenate([name_vectors(tables, seed), np.zeros((1, backbone.joint_width), np.float32)])
    parameters = [value for name, value in backbone.clip.named_parameters() if _is_text(name)]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    similarities = []
    for step in progress(range(steps), "text tower", steps):
        batch = text_batch(BATCH, np.random.default_rng([seed, step]))
        target = torch.from_numpy(codes(batch.numbers, tables, names[batch.names])).to(backbone.device)
        similarity = F.cosine_similarity(text_features(backbone, batch.texts), target).mean()
        optimizer.zero_grad(set_to_none=True)
        (1 - similarity).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        similarities.append(similarity.item())
    for parameter in parameters:
        parameter.requires_grad_(False)
    return float(np.mean(similarities[-20:]))


def _is_text(name: str) -> bool:
    return not name.startswith("visual.") and name != "logit_scale"


def text_features(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Return the unit vectors (T, C) of texts, with gradients if the tower's parameters have them."""
    tokens = backbone.tokenize(list(texts)).to(backbone.device)
    return F.normalize(backbone.encode_embeddings(backbone.text.token_embedding(tokens), tokens), dim=-1)


@torch.no_grad()
def state_vectors(backbone: Backbone, names: Sequence[str]) -> Tensor:
    """Return prompt ensembles: (K, 2, C) unit vectors of the normal and the abnormal state of every class name."""
    rows = []
    for name in names:
        for states in (NORMAL_STATES, ABNORMAL_STATES):
            prompts = [template.format(state.format(name)) for template in PROMPT_TEMPLATES for state in states]
            rows.append(F.normalize(text_features(backbone, prompts).mean(dim=0), dim=0))
    return torch.stack(rows).view(len(names), 2, -1)


def used_tokens(backbone: Backbone) -> list[int]:
    """Return the sorted ids of every token that occurs in a caption, with the start and end tokens."""
    texts = [name for kind in KINDS.values() for name in kind.names] + [name for names in SYNONYMS for name in names]
    texts += [*COLOURS, *PLACES, *EXTENTS, *NORMAL_STATES, *ABNORMAL_STATES, *NORMAL_SENTENCES, *TEMPLATES]
    texts += [
        text for wordings in (DEFECT_NOUNS, DEFECT_SENTENCES) for several in wordings.values() for text in several
    ]
    texts += ["object", "with a : at the", "an a ."]
    texts = [text.replace("{}", " ") for text in texts]
    found = set(backbone.tokenize(texts).unique().tolist())
    return sorted(found - {0})


def stand_in_token(backbone: Backbone) -> int:
    """Return the id of the token that stands for every unseen one."""
    return int(backbone.tokenize([STAND_IN])[0, 1])
