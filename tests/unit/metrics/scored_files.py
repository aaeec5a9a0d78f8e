"""Write a dataset of noise and its scores.h5."""

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from kanoclip.datasets.index import read_index, write_index

SIZE, GRID = 32, 8
GOOD, BAD = 4, 5


def write_dataset(folder, classes=("bottle", "metal nut"), masks=True, normal=GOOD, anomalous=BAD):
    """Write a dataset of noise images; anomalous images have a square with its mask."""
    generator = np.random.default_rng(0)
    rows = []
    for class_name in classes:
        for i in range(normal + anomalous):
            label = int(i >= normal)
            name = f"{class_name}-{i}"
            Image.fromarray(generator.integers(0, 255, (48, 40, 3), dtype=np.uint8)).save(folder / f"{name}.png")
            mask = ""
            if label and masks:
                mask = f"{name}_mask.png"
                square = np.zeros((48, 40), dtype=np.uint8)
                top, left = generator.integers(0, 25, 2)
                square[top : top + 12, left : left + 12] = 255
                Image.fromarray(square).save(folder / mask)
            rows.append((f"{name}.png", mask, class_name, label, "square" if label else "good", "test"))
    write_index(
        pd.DataFrame(rows, columns=["image", "mask", "class_name", "label", "defect", "split"]), folder / "index.csv"
    )
    return folder / "index.csv"


def write_scores(index, path, maps=None, image_score=None, sigma=4.0):
    rows = read_index(index)
    generator = np.random.default_rng(1)
    if maps is None:
        maps = generator.random((len(rows), GRID, GRID))
    if image_score is None:
        image_score = generator.random(len(rows)) + 0.3 * rows["label"].to_numpy()
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        file.create_dataset("image", data=list(rows["image"]), dtype=text)
        file.create_dataset("class_name", data=list(rows["class_name"]), dtype=text)
        file["map"] = np.asarray(maps, dtype=np.float32)
        for name in ("image_score", "image_probability", "map_score"):
            file[name] = np.asarray(image_score, dtype=np.float32)
        file.attrs.update(method="clip", backbone="tiny", auxiliary="none", dataset="toy", seed=3, version="0.1.0")
        file.attrs.update(sigma=sigma, image_size=SIZE, threshold_image=0.5, threshold_pixel=0.5)
    return path
