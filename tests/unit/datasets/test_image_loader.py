"""Batches are loaded ahead, in order, with the pixels of open_clip's transform, and threads end cleanly."""

import threading
import time
from itertools import count, islice

import numpy as np
import open_clip
import pytest
import torch
from layout_writers import save_image
from PIL import Image

from kanoclip.datasets import image_loader
from kanoclip.datasets.image_loader import ImageLoader
from kanoclip.datasets.images import load_image
from kanoclip.types import InputError

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.fixture
def paths(tmp_path):
    """Return images of several sizes, larger and smaller than the requested size."""
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        save_image(file, (20 + 9 * number, 70 - 7 * number))
    return list(map(str, files))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("side", [32, 45, 90])
def test_pixels_are_identical_to_those_of_open_clip(tmp_path, mode, side):
    path = tmp_path / ("image.jpg" if mode in ("CMYK", "YCbCr") else "image.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 45, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    transform = open_clip.image_transform(side, is_train=False, mean=MEAN, std=STD, resize_mode="squash")
    with ImageLoader(side) as loader:
        (batch,) = loader.stream([[str(path)]])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255 - mean) / std
    assert torch.equal(pixels[0], transform(load_image(path)))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_batches_are_in_order_whichever_finishes_first(paths, workers, ahead, monkeypatch):
    def slow(path, size, load=image_loader.load_square):
        time.sleep(0.02 if path in paths[::2] else 0)
        return load(path, size)

    expected = [np.asarray(load_image(path).resize((24, 24), Image.Resampling.BICUBIC)) for path in paths]
    monkeypatch.setattr(image_loader, "load_square", slow)
    with ImageLoader(24, workers, ahead) as loader:
        batches = list(loader.stream([paths[:3], paths[3:6], paths[6:]]))
    assert [batch.shape for batch in batches] == [(3, 24, 24, 3), (3, 24, 24, 3), (1, 24, 24, 3)]
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_no_batch_is_loaded_earlier_than_configured(paths):
    taken = []

    def batches():
        for number in count():
            taken.append(number)
            yield paths[:2]

    with ImageLoader(8, 2, ahead=3) as loader:
        list(islice(loader.stream(batches()), 2))
    assert taken == [0, 1, 2, 3, 4]


def test_changing_a_batch_does_not_change_the_next(paths):
    with ImageLoader(8, 2) as loader:
        first, second = loader.stream([paths[:1], paths[:1]])
    first[:] = 0
    assert second.any()


def test_the_error_names_a_broken_image_and_loading_stops(paths, tmp_path, monkeypatch):
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:100])
    begun = []

    def noted(path, size, load=image_loader.load_square):
        begun.append(path)
        time.sleep(0.01)
        return load(path, size)

    monkeypatch.setattr(image_loader, "load_square", noted)
    with ImageLoader(8, 1, ahead=2) as loader:
        stream = loader.stream([paths[:2], paths[2:4], paths * 20])
        assert next(stream).shape == (2, 8, 8, 3)
        with pytest.raises(InputError, match="3.png: not a whole image") as caught:
            next(stream)
        assert "\n" not in str(caught.value)
    assert len(begun) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]


def test_stopping_early_ends_the_threads(paths):
    with ImageLoader(8, 2, ahead=2) as loader:
        next(loader.stream([paths] * 50))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]


def test_a_loader_can_be_used_again(paths):
    with ImageLoader(8, 2) as loader:
        next(loader.stream([paths] * 5))
        (batch,) = loader.stream([paths])
    assert len(batch) == 7
