import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanoclip.datasets.index import read_index, write_index


@pytest.fixture
def scored(tmp_path):
    """A function that makes a dataset with scores by some methods; gives the index and one scores.h5 a method."""

    def make(dataset, methods=("kanoclip", "clip"), masks=True, normal=3, anomalous=5):
        generator = np.random.default_rng(len(dataset))
        folder = tmp_path / dataset
        folder.mkdir()
        rows = []
        for i in range(normal + anomalous):
            label = int(i >= normal)
            Image.fromarray(generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            if label and masks:
                Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((5, 15), (10, 20)))).save(
                    folder / f"{i}m.png"
                )
            mask = f"{i}m.png" if label and masks else ""
            rows.append((f"{i}.png", mask, "metal nut", label, "bent" if label else "good", "test"))
        columns = ["image", "mask", "class_name", "label", "defect", "split"]
        write_index(pd.DataFrame(rows, columns=columns), folder / "index.csv")
        n = len(read_index(folder / "index.csv"))
        for k, method in enumerate(methods):
            with h5py.File(folder / f"{method}.h5", "w") as file:
                file.create_dataset("image", data=[row[0] for row in rows], dtype=h5py.string_dtype())
                file["map"] = generator.random((n, 4, 4), dtype=np.float32)
                file["image_score"] = np.linspace(0.1, 0.8, n, dtype=np.float32) + np.float32(k / 100)
                file.attrs.update(method=method, dataset=dataset, sigma=4.0)
        return folder / "index.csv", [folder / f"{method}.h5" for method in methods]

    return make
