"""Measure the cost of checksums as a share of the time of the work that they protect.

PYTHONPATH=. python benchmarks/integrity.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from measuring import write_images

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.images import load_square
from kanoclip.datasets.index import read_index
from kanoclip.datasets.integrity import check_unchanged
from kanoclip.features import FeatureCache, encode
from kanoclip.hdf5 import row_checksum


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        index = write_images(Path(folder), args.images)
        frame, cache = read_index(index), Path(folder) / "features.h5"
        backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="embedded", image_size=128))
        taps = [Tap("tokens", block) for block in backbone.quarters] + [Tap("vv", backbone.layers)]
        encoding = best(lambda: (cache.unlink(missing_ok=True), encode(index, backbone, taps, cache)), 2)
        opened = FeatureCache(cache, frame)
        rows = range(len(frame))
        values = {tap: opened.read(rows, [tap])[tap].numpy() for tap in taps}
        sums = best(lambda: [row_checksum(values[tap][row], row) for tap in taps for row in rows])
        reading = best(lambda: opened.read(rows, taps))
        decoding = best(lambda: [load_square(path, 128) for path in frame["image_path"]], 2)
        digests = best(lambda: check_unchanged(frame))
        maps = np.random.default_rng(0).random((len(frame), 37, 37), dtype=np.float32)
        plain, checked = (best(lambda on=on: maps_of(Path(folder) / "maps.h5", maps, on)) for on in (False, True))
        size = sum(array.nbytes for array in values.values())
    print(f"{args.images} images, {size / 1e6:.1f} MB of features, CRC-32 at {size / sums / 1e9:.2f} GB/s")
    print(f"checksums of features: {sums / encoding:.2%} of encoding, {sums / reading:.1%} of reading them again")
    print(f"digests of images and masks: {digests / decoding:.1%} of decoding them")
    print(f"Fletcher-32 of maps: writing and reading them takes {checked / plain:.2f} times as long")


def best(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def maps_of(path: Path, maps: np.ndarray, checked: bool) -> None:
    """Write maps in the format of scores.h5 and read them."""
    with h5py.File(path, "w") as file:
        chunks = (16, *maps.shape[1:])
        file.create_dataset("map", data=maps, chunks=chunks, compression=1, shuffle=True, fletcher32=checked)
    with h5py.File(path) as file:
        file["map"][:]


if __name__ == "__main__":
    main()
