"""Train the image tower against the locked text tower, first on small images, then on whole ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.synthetic import KINDS, Facts, defects_of, describe, display_name
from kanoclip.datasets.synthetic.render import EXTENTS, PLACES
from kanoclip.files import whole
from kanoclip.pretraining.batches import DevicePool, DeviceViews, device_views
from kanoclip.pretraining.codes import KIND, STATE, UNKNOWN, attributes, truth
from kanoclip.pretraining.corpus import Corpus, views
from kanoclip.pretraining.initial import initialise, normalised
from kanoclip.pretraining.losses import alignment, dense_state, image_state, ranking, state_logits
from kanoclip.pretraining.mixing import mixed_views
from kanoclip.pretraining.stages import LEARNING_RATE, Stage, learning_rate
from kanoclip.pretraining.text import state_vectors, text_features

WEIGHT_DECAY = 0.05
CLIP_NORM = 1.0
DENSE_WEIGHT = 2.0
REAL_ALIGNMENT = 0.3  # weight of the caption loss in batches with composites: it only preserves what was learned
LOCAL_EVERY = 2  # in every second step the dense loss also acts on the V-V stream
GENERIC_PROMPTS = 0.3  # share of images whose prompts say "object" instead of the class name


class ImageTraining:
    """The training of one image tower, which can stop and resume.

    Attributes:
        backbone: the tower in training at the size of the current stage; its text tower is locked.
        step: optimiser steps done.
        states: (kinds, 2, C) prompt vectors of the normal and the abnormal state of every kind.
    """

    def __init__(
        self,
        config: BackboneConfig,
        state: dict[str, Tensor],
        corpus: Corpus,
        schedule: Sequence[Stage],
        seed: int,
        composites: Corpus | None = None,
        warm: bool = False,
    ) -> None:
        """Set up the model and its optimiser before the first step.

        Args:
            config: configuration of the model at its full image size.
            state: parameters of the model; its text tower stays as it is.
            corpus: drawn training images.
            schedule: the stages in order.
            seed: seed of the initial weights and the batches.
            composites: defects on photographs; None without photographs.
            warm: continue from the image tower of `state` instead of from initial weights.
        """
        self.config, self.corpus, self.schedule, self.seed = config, corpus, schedule, seed
        self.composites = composites
        self.pools: list[DevicePool] = []
        self.step = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.scale = nn.Parameter(torch.tensor(10.0, device=self.device))
        self.bias = nn.Parameter(torch.tensor(-5.0, device=self.device))
        self._enter(schedule[0].size, state)
        vectors = state_vectors(self.backbone, ["object", *(display_name(kind) for kind in KINDS)])
        self.generic, self.states = vectors[0], vectors[1:]
        if not warm:
            first = views(corpus, min(512, len(corpus.images)), schedule[0].size, np.random.default_rng(seed))
            initialise(self.backbone, first.images, seed)

    def _enter(self, size: int, state: dict[str, Tensor]) -> None:
        """Build the tower for images of a size and load a state, with the position table resized."""
        config = self.config.model_copy(update={"image_size": size, "weights": f"random:{self.seed}"})
        self.backbone: Backbone = load_backbone(config, self.device)
        state = dict(state)
        resize_pos_embed(state, self.backbone.clip)
        self.backbone.clip.load_state_dict(state)
        learned = trainable(self.backbone)
        matrices = [p for p in learned if p.ndim > 1]
        others = [p for p in learned if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": [*others, self.scale, self.bias], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98))

    def stage(self) -> Stage | None:
        """Return the stage of the next step; None when training is over."""
        before = 0
        for stage in self.schedule:
            before += stage.steps
            if self.step < before:
                return stage
        return None

    def advance(self, stage: Stage) -> dict[str, float]:
        """Take one optimiser step and return the values of the losses."""
        if self.backbone.clip.visual.image_size[0] != stage.size:
            self._enter(stage.size, self.backbone.clip.state_dict())
        rng = np.random.default_rng([self.seed, self.step])
        parts = self._losses(self._batch(stage, rng), rng, stage.world)
        total = torch.stack(list(parts.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.backbone.clip.visual.parameters(), CLIP_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.schedule, self.step)
        self.optimizer.step()
        self.step += 1
        return {name: part.item() for name, part in parts.items()}

    def _batch(self, stage: Stage, rng: np.random.Generator) -> DeviceViews:
        if stage.world == "real":
            if not self.pools:
                self.pools = [DevicePool(self.corpus, self.device, grouped=False)]
                if self.composites is not None:
                    self.pools.append(DevicePool(self.composites, self.device, grouped=True))
            return device_views(self.pools, stage.batch, stage.size, (self.seed, self.step))
        if stage.world == "mixed":
            batch = mixed_views(self.corpus, stage.batch, rng)
        else:
            batch = views(self.corpus, stage.batch, stage.size, rng)
        return DeviceViews(
            torch.from_numpy(np.array(batch.images)).to(self.device).permute(0, 3, 1, 2).float(),
            torch.from_numpy(batch.masks).to(self.device).float(),
            batch.numbers,
            [self.corpus.facts[row] for row in batch.rows],
        )

    def _losses(self, batch: DeviceViews, rng: np.random.Generator, world: str) -> dict[str, Tensor]:
        last, local = self.backbone.layers, self.step % LOCAL_EVERY == 1
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            taps = [Tap("tokens", last), *([Tap("vv", last)] if local else [])]
            tower = self.backbone.tower
            features = tower.run(tower.embed(normalised(batch.images)), watch=taps)
            projected = [self.backbone.project(features[tap]).float() for tap in taps]  # (B, 1 + P, C) per stream
            token, patches = projected[0][:, 0], [tokens[:, 1:] for tokens in projected]
        states = self._prompts(batch, rng)
        abnormal = torch.from_numpy(batch.numbers[:, STATE] == 1).to(self.device).float()
        known = torch.from_numpy(batch.numbers[:, STATE] != UNKNOWN).to(self.device)
        dense = [dense_state(state_logits(tokens, states), batch.masks) for tokens in patches]
        logits = state_logits(token[:, None], states)[:, 0]
        paired = torch.zeros_like(known) if world == "drawn" else (abnormal > 0) & known
        return {
            "alignment": self._alignment(token, batch, rng, world),
            "state": image_state(logits, abnormal, known),
            "dense": DENSE_WEIGHT * torch.stack(dense).mean(),
            "ranking": ranking(logits, paired),
        }

    def _prompts(self, batch: DeviceViews, rng: np.random.Generator, share: float = GENERIC_PROMPTS) -> Tensor:
        """Return (B, 2, C) state vectors with each image's class name, or with "object".

        Args:
            batch: B images.
            rng: chooses the images whose prompts say "object" besides those without a class name.
            share: probability of that choice.
        """
        kinds = torch.from_numpy(batch.numbers[:, KIND].astype(np.int64)).to(self.device)
        generic = torch.from_numpy(rng.random(len(kinds)) < share).to(self.device) | (kinds < 0)
        return torch.where(generic[:, None, None], self.generic, self.states[kinds])

    def _alignment(self, token: Tensor, batch: DeviceViews, rng: np.random.Generator, world: str) -> Tensor:
        """Return the sigmoid loss of the drawn images against captions; composites have no facts to describe.

        In batches with composites it is computed only in the steps without the V-V stream, to save time.
        """
        weight = REAL_ALIGNMENT if world == "real" else 1.0
        if world == "real" and self.step % LOCAL_EVERY:
            return torch.zeros((), device=self.device)
        rows = [row for row, facts in enumerate(batch.facts) if facts.kind in KINDS]
        token, numbers = token[rows], batch.numbers[rows]
        facts = [facts_of_view(batch.facts[row], batch.numbers[row]) for row in rows]
        own = [describe(fact, rng) for fact in facts]
        other = [describe(flipped(fact, rng), rng) for fact in facts]
        captions = [*own, *other]
        true, known = truth(numbers, np.stack([attributes(caption.facts) for caption in captions]))
        with torch.no_grad():
            texts = text_features(self.backbone, [caption.text for caption in captions])
        is_flipped = torch.zeros(true.shape, dtype=torch.bool)
        is_flipped[:, len(own) :].fill_diagonal_(True)
        return weight * alignment(
            token @ texts.T,
            torch.from_numpy(true).to(self.device),
            torch.from_numpy(known).to(self.device),
            is_flipped.to(self.device),
            self.scale,
            self.bias,
        )

    def at_full_size(self) -> Backbone:
        """Return a copy of the tower at its full image size, with the position table resized."""
        config = self.config.model_copy(update={"weights": f"random:{self.seed}"})
        backbone = load_backbone(config, self.device)
        state = dict(self.backbone.clip.state_dict())
        resize_pos_embed(state, backbone.clip)
        backbone.clip.load_state_dict(state)
        return backbone

    def save(self, path: Path) -> None:
        """Write everything that is needed to resume."""
        state = {
            "clip": self.backbone.clip.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scale": self.scale.detach(),
            "bias": self.bias.detach(),
            "step": self.step,
            "size": self.backbone.clip.visual.image_size[0],
        }
        with whole(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Resume from a file written by `save`."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self._enter(state["size"], state["clip"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.scale.copy_(state["scale"])
            self.bias.copy_(state["bias"])
        self.step = state["step"]


def trainable(backbone: Backbone) -> list[nn.Parameter]:
    """Turn on the gradients of an image tower, except in the convolutions of its stem, and return what they change."""
    visual = backbone.clip.visual
    visual.requires_grad_(True)
    visual.conv1.network.requires_grad_(False)
    return [parameter for parameter in visual.parameters() if parameter.requires_grad]


def facts_of_view(facts: Facts, numbers: NDArray[np.int16]) -> Facts:
    """Return the facts of a view: a crop that misses the defect is normal."""
    return replace(facts, defect="good", place="", extent="") if numbers[STATE] == 0 else facts


def flipped(facts: Facts, rng: np.random.Generator) -> Facts:
    """Return the facts with the opposite state, so that the caption is false because of its state only."""
    if facts.defect != "good":
        return replace(facts, defect="good", place="", extent="")
    defect, place, extent = (str(rng.choice(words)) for words in (defects_of(facts.kind), PLACES, EXTENTS))
    return replace(facts, defect=defect, place=place, extent=extent)
