"""The last part of the image tower's training: whole images whose defects are easy to see at first.

Half of every batch are drawn pairs, where whole objects on plain ground are normal, half are composites on photographs.
The weights that count are a running average.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.synthetic import KINDS, TRAINING_KINDS
from kanoclip.files import whole
from kanoclip.pretraining.batches import DevicePool, DeviceViews
from kanoclip.pretraining.codes import KIND, STATE, UNKNOWN
from kanoclip.pretraining.corpus import IMAGE_SIZE, Corpus
from kanoclip.pretraining.easier import easier_views
from kanoclip.pretraining.image import CLIP_NORM, WEIGHT_DECAY, ImageTraining, trainable
from kanoclip.pretraining.initial import normalised
from kanoclip.pretraining.losses import TEMPERATURE, dense_state, image_state, ranking, state_logits
from kanoclip.pretraining.stages import WARM_UP, Stage

MATRIX_RATE, OTHER_RATE = 1.5e-3, 1e-3  # of Muon on the blocks' matrices, of AdamW on the rest
LEAST_RATE = 0.002  # of the peak, at the end of the cosine
AVERAGING = 0.996
LOCAL_EVERY = 4  # every fourth step also trains the V-V stream, on half a batch
GENERIC_PROMPTS = 0.4
NO_CLASS = -1
WEIGHTS = {"dense": 1.0, "local": 1.0, "state": 0.5, "ranking": 0.5, "kind": 0.03}


class FinalTraining(ImageTraining):
    """The last part of the training of an image tower, which can stop and resume."""

    def __init__(
        self,
        config: BackboneConfig,
        state: dict[str, Tensor],
        corpus: Corpus,
        composites: Corpus,
        steps: int,
        batch: int,
        seed: int,
    ) -> None:
        """Set up the model and its optimisers before the first step.

        Args:
            config: configuration of the model at its full image size.
            state: parameters of the model; its text tower and the convolutions of its stem stay as they are.
            corpus: drawn training images.
            composites: defects on photographs.
            steps: optimiser steps.
            batch: images per step, a multiple of 8.
            seed: seed of the batches.
        """
        schedule = (Stage(IMAGE_SIZE, steps, batch, 1.0, "real"),)
        super().__init__(config, state, corpus, schedule, seed, composites, warm=True)
        self.pools = [DevicePool(corpus, self.device, grouped=False), DevicePool(composites, self.device, grouped=True)]
        self.average = {name: value.clone() for name, value in self.backbone.clip.visual.state_dict().items()}
        matrices = [value for value in self.backbone.blocks.parameters() if value.ndim == 2]
        known = {id(value) for value in matrices}
        rest = [value for value in trainable(self.backbone) if id(value) not in known]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, MATRIX_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": [value for value in rest if value.ndim > 1], "weight_decay": WEIGHT_DECAY},
                    {"params": [value for value in rest if value.ndim <= 1], "weight_decay": 0.0},
                ],
                OTHER_RATE,
                betas=(0.9, 0.98),
            ),
        ]
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        seen = torch.tensor([list(KINDS).index(kind) for kind in TRAINING_KINDS], device=self.device)
        self.classes = F.normalize(self.states[seen].sum(1), dim=-1)
        self.class_of_kind = torch.full((len(KINDS),), NO_CLASS, device=self.device)
        self.class_of_kind[seen] = torch.arange(len(seen), device=self.device)

    def classes_of(self, kinds: Tensor) -> Tensor:
        """Return the class of each kind among the training kinds, NO_CLASS for held-out and unknown kinds.

        Args:
            kinds: (B,) attribute numbers; negative where a view's kind is not known.
        """
        return torch.where(kinds < 0, NO_CLASS, self.class_of_kind[kinds.clamp(min=0)])

    def advance(self, stage: Stage) -> dict[str, float]:
        """Take one optimiser step; return the values of the losses."""
        rng = np.random.default_rng([self.seed, self.step])
        progress, local = self.step / stage.steps, self.step % LOCAL_EVERY == LOCAL_EVERY - 1
        count = stage.batch // 2 if local else stage.batch
        batch = easier_views(self.pools, count, stage.size, progress, (self.seed, self.step))
        parts = self._parts(batch, rng, local)
        total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.backbone.clip.visual.parameters(), CLIP_NORM)
        cosine = max(0.5 * (1 + math.cos(math.pi * progress)), LEAST_RATE) * min(1.0, (self.step + 1) / WARM_UP)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * cosine
            optimizer.step()
        self.step += 1
        self._follow()
        return {name: parts[name].item() if name in parts else float("nan") for name in WEIGHTS}

    def _parts(self, batch: DeviceViews, rng: np.random.Generator, local: bool) -> dict[str, Tensor]:
        """Return the losses by name, not weighted."""
        last, tower = self.backbone.layers, self.backbone.tower
        taps = [Tap("tokens", last), *([Tap("vv", last)] if local else [])]
        features = tower.run(tower.embed(normalised(batch.images)), watch=taps)
        projected = [self.backbone.project(features[tap]) for tap in taps]
        kinds = torch.from_numpy(batch.numbers[:, KIND].astype(np.int64)).to(self.device)
        prompts = self._prompts(batch, rng, GENERIC_PROMPTS)
        logits = [state_logits(tokens[:, 1:], prompts) for tokens in projected]
        token = projected[0][:, 0]
        abnormal = torch.from_numpy(batch.numbers[:, STATE] == 1).to(self.device).float()
        known = torch.from_numpy(batch.numbers[:, STATE] != UNKNOWN).to(self.device)
        score, classes = state_logits(token[:, None], prompts)[:, 0], self.classes_of(kinds)
        parts = {
            "dense": dense_state(logits[0], batch.masks),
            "state": image_state(score, abnormal, known),
            "ranking": ranking(score, (abnormal > 0) & known),
        }
        if (classes >= 0).any():
            parts["kind"] = F.cross_entropy(token @ self.classes.T / TEMPERATURE, classes, ignore_index=NO_CLASS)
        return parts | ({"local": dense_state(logits[1], batch.masks)} if local else {})

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the tower: slowly, and faster in the first steps."""
        keep = min(AVERAGING, self.step / (self.step + 20))
        for name, value in self.backbone.clip.visual.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def at_full_size(self) -> Backbone:
        """Return a copy of the model with the averaged image tower."""
        backbone = super().at_full_size()
        backbone.clip.visual.load_state_dict(self.average)
        return backbone

    def save(self, path: Path) -> None:
        """Write everything that is needed to resume."""
        state = {
            "visual": self.backbone.clip.visual.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        with whole(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Resume from a file written by `save`."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.backbone.clip.visual.load_state_dict(state["visual"])
        self.average, self.step = state["average"], state["step"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
