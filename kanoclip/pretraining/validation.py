"""Validate a tower on held-out drawn images and composites; every choice is made on these, never on real anomalies."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.datasets.synthetic import KINDS, TRAINING_KINDS
from kanoclip.maps import upsample
from kanoclip.pretraining.codes import KIND, STATE
from kanoclip.pretraining.corpus import Corpus
from kanoclip.pretraining.initial import pixels
from kanoclip.pretraining.losses import state_logits

BATCH = 56


@torch.no_grad()
def validate(backbone: Backbone, corpus: Corpus, prompts: Tensor, generic: Tensor, stride: int = 1) -> dict[str, float]:
    """Return the zero-shot results of prompt ensembles with class names, as means over kinds.

    Args:
        backbone: at the image size of the corpus.
        corpus: normal and anomalous images of some kinds.
        prompts: (kinds, 2, C) state vectors of every kind, in the order of KINDS.
        generic: (2, C) state vectors of "object", for images without a kind.
        stride: use every `stride`-th row and column of pixels, to save time.

    Returns:
        AUROC in 0..1: `image_class_token`, `image_map_maximum`, `pixel_original`, `pixel_local` (V-V stream); and
        `kind_top1`, the share of images nearest to their own class name among all training kinds, if there are images
        of such kinds.
    """
    kinds = sorted({facts.kind for facts in corpus.facts})
    row_kinds = np.array([facts.kind for facts in corpus.facts])
    abnormal = corpus.numbers[:, STATE] == 1
    seen = [list(KINDS).index(kind) for kind in TRAINING_KINDS]
    classes = F.normalize(prompts[seen].sum(dim=1), dim=-1)
    last = backbone.layers
    collected: dict[str, list[NDArray[np.float32]]] = {"class_token": [], "original": [], "local": [], "kind": []}
    for start in range(0, len(corpus.images), BATCH):
        rows = slice(start, start + BATCH)
        numbers = torch.from_numpy(corpus.numbers[rows, KIND].astype(np.int64)).to(backbone.device)
        states = torch.where((numbers < 0)[:, None, None], generic, prompts[numbers])
        taps = {"original": Tap("tokens", last), "local": Tap("vv", last)}
        features = backbone.encode_images(pixels(corpus.images[rows]).to(backbone.device), list(taps.values()))
        token = backbone.project(features[taps["original"]][:, 0])
        collected["class_token"].append(state_logits(token[:, None], states)[:, 0].cpu().numpy())
        collected["kind"].append((token @ classes.T).argmax(dim=1).cpu().numpy())
        for stream, tap in taps.items():
            logits = state_logits(backbone.project(features[tap][:, 1:]), states).unflatten(1, backbone.grid)
            size = corpus.images.shape[1:3]
            collected[stream].append(upsample(logits, size)[:, ::stride, ::stride].cpu().numpy())
    scores = {name: np.concatenate(parts) for name, parts in collected.items()}
    masks = np.unpackbits(corpus.masks, axis=2).astype(bool)[:, ::stride, ::stride]
    chosen = [row_kinds == kind for kind in kinds]
    results = {
        "image_class_token": _mean_auroc([(abnormal[rows], scores["class_token"][rows]) for rows in chosen]),
        "image_map_maximum": _mean_auroc([(abnormal[rows], scores["original"][rows].max((1, 2))) for rows in chosen]),
        "pixel_original": _mean_auroc([(masks[rows].ravel(), scores["original"][rows].ravel()) for rows in chosen]),
        "pixel_local": _mean_auroc([(masks[rows].ravel(), scores["local"][rows].ravel()) for rows in chosen]),
    }
    known = np.isin(row_kinds, TRAINING_KINDS)
    if known.any():
        names = np.array(TRAINING_KINDS)[scores["kind"].astype(int)]
        results["kind_top1"] = float((names == row_kinds)[known].mean())
    return results


def _mean_auroc(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]]) -> float:
    return float(np.mean([roc_auc_score(labels, scores) for labels, scores in pairs]))
