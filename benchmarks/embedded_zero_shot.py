"""Measure image and pixel AUROC of `clip` with weights of kanoclip-tiny, and of local contrast, on prepared datasets.

Prepare each dataset first, `kanoclip prepare --dataset NAME --path FOLDER --out NAME.csv`, then

python benchmarks/embedded_zero_shot.py --weights embedded new/kanoclip-tiny.safetensors --index a.csv b.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.images import load_square
from kanoclip.datasets.index import read_index
from kanoclip.datasets.masks import masks_at
from kanoclip.maps import scaled_sigma, smooth, upsample_and_smooth
from kanoclip.prompts.ensemble import text_vectors

SIZE, BATCH, TEMPERATURE, SIGMA = 128, 32, 0.07, 4.0


def embedded(weights: str) -> Backbone:
    """Return the backbone with the weights in the package, or with those in a file of `kanoclip pretrain`."""
    backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=SIZE))
    if weights != "embedded":
        state = load_file(weights)
        ids, stored = state.pop("token_ids"), state["token_embedding.weight"].float()
        table = stored[-1].repeat(backbone.clip.token_embedding.num_embeddings, 1)
        table[ids] = stored[:-1]
        backbone.clip.load_state_dict({**state, "token_embedding.weight": table})
    return backbone


def scores(backbone: Backbone, images: torch.Tensor, class_names: list[str]) -> tuple[torch.Tensor, ...]:
    """Return image scores (N,), the maxima of the maps (N,), and the maps (N, S, S) of the original stream."""
    text = torch.stack([text_vectors(backbone.encode_text, "clip", name) for name in sorted(set(class_names))])
    of_image = text[torch.tensor([sorted(set(class_names)).index(name) for name in class_names])]
    direction = (of_image[:, 1] - of_image[:, 0]) / TEMPERATURE
    found, tap = [], Tap("tokens", backbone.layers)
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        with torch.no_grad():
            tokens = backbone.project(backbone.encode_images(images[rows], [tap])[tap])
            image, patches = (tokens[:, 0] * direction[rows]).sum(-1), tokens[:, 1:]
        grid = torch.einsum("bpc,bc->bp", patches, direction[rows]).sigmoid().unflatten(1, backbone.grid)
        maps = upsample_and_smooth(grid, (SIZE, SIZE), scaled_sigma(SIGMA, SIZE))
        found.append((image, grid.amax((1, 2)), maps))
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def local_contrast(images: list[Image.Image]) -> tuple[torch.Tensor, ...]:
    """Return the scores and maps of the control `local_contrast` with its defaults, in the same form."""
    plain = torch.stack([torch.from_numpy(np.array(image.resize((SIZE, SIZE)), np.float32)) for image in images]) / 255
    blurred = torch.stack([smooth(colour, 8.0) for colour in plain.unbind(-1)], dim=-1)
    maps = smooth((plain - blurred).abs().mean(-1), 2.0)
    return maps.amax((1, 2)), maps.amax((1, 2)), smooth(maps, scaled_sigma(SIGMA, SIZE))


def main() -> None:
    """Print one line per dataset, class and detector, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["embedded"])
    parser.add_argument("--index", nargs="+", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="CSV")
    args = parser.parse_args()
    torch.set_num_threads(1)
    backbones = {weights: embedded(weights) for weights in args.weights}
    rows = []
    for index in args.index:
        for name, frame in read_index(index).groupby("class_name"):
            images = [Image.open(path).convert("RGB") for path in frame["image_path"]]
            labels, masks = frame["label"].to_numpy(), np.stack(list(masks_at(frame, SIZE)))
            found = {"local contrast": local_contrast(images)}
            squares = np.stack([load_square(path, SIZE) for path in frame["image_path"]])
            pixels = next(iter(backbones.values())).normalise(squares)
            found |= {key: scores(b, pixels, frame["class_name"].tolist()) for key, b in backbones.items()}
            for detector, (image, maximum, maps) in found.items():
                row = {"dataset": index.stem, "class": name, "detector": detector}
                row["image"], row["map maximum"] = (100 * roc_auc_score(labels, part) for part in (image, maximum))
                row["pixel"] = 100 * roc_auc_score(masks.ravel(), maps.numpy().ravel()) if masks.any() else np.nan
                rows.append(row)
                print(*(f"{value:.1f}" if isinstance(value, float) else value for value in row.values()), flush=True)
    table = pd.DataFrame(rows)
    print(table.groupby("detector")[["image", "map maximum", "pixel"]].mean().round(1))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
