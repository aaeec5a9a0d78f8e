import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from kanoclip.backbones.streams import Streams

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import load_image, read_index
from kanoclip.features import FeatureCache, encode
from kanoclip.types import InputError

SLOW_ENCODE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import kanoclip.features as features
from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.streams import Streams
from kanoclip.config import BackboneConfig
write = features._write
def slow(*args):
    write(*args)
    time.sleep(0.2)
features._write = slow
backbone = load_backbone(BackboneConfig(model="kanoclip-tiny", weights="random:0", image_size=32))
features.encode(Path(sys.argv[1]), backbone, Streams((6,), (2, 6)), Path(sys.argv[2]), batch_size=2)
"""


def images(index: Path) -> list[str]:
    return read_index(index)["image"].tolist()


def contents(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return {name: file[name][:] for name in names}


def test_cache_holds_what_the_tower_says(index: Path, features: Path, backbone: Backbone, all_streams: Streams) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, images(index))
    rows = [7, 0, 12]
    pixels = torch.stack([backbone.preprocess(load_image(frame["image_path"][row])) for row in rows])
    expected = backbone.encode_images(pixels, all_streams)
    found = cache.read(rows, all_streams)
    torch.testing.assert_close(found.cls.float(), expected.cls, atol=2e-3, rtol=2e-3)
    for stream, keys in vars(all_streams).items():
        for key in keys:
            cached, fresh = getattr(found, stream)[key], getattr(expected, stream)[key]
            torch.testing.assert_close(cached.float(), fresh, atol=5e-3, rtol=2e-3)


def test_workers_change_nothing(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    one, three = tmp_path / "one.h5", tmp_path / "three.h5"
    encode(index, backbone, Streams(local=(6,)), one, batch_size=3)
    encode(index, backbone, Streams(local=(6,)), three, batch_size=3, workers=3)
    assert np.array_equal(contents(one)["local/6"], contents(three)["local/6"])


def test_an_image_that_broke_after_prepare_is_named(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(read_index(index)["image_path"][9]).read_bytes()[:200])
    (tmp_path / "index.csv").write_text(
        index.read_text().splitlines()[0] + f"\nbroken.png,,nut,0,good,test,{'0' * 32},\n"
    )
    with pytest.raises(InputError) as caught:
        encode(tmp_path / "index.csv", backbone, Streams(local=(6,)), tmp_path / "features.h5", workers=2)
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "features.h5").exists()


def test_one_chunk_an_image_in_fp16(features: Path) -> None:
    with h5py.File(features) as file:
        for dataset in (file["cls"], file["local/6"]):
            assert dataset.dtype == np.float16
            assert dataset.chunks == (1, *dataset.shape[1:])
        assert file["done"][:].all()


def test_kill_and_resume_gives_the_same_cache(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    """SIGKILL in the middle, twice; the third run finishes. Nothing is lost, doubled or changed."""
    whole, killed = tmp_path / "whole.h5", tmp_path / "killed.h5"
    encode(index, backbone, Streams((6,), (2, 6)), whole, batch_size=2)
    partial = tmp_path / "killed.h5.partial"
    finished = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", SLOW_ENCODE, str(index), str(killed)])
        wanted = (finished[-1] if finished else 0) + 4
        while process.poll() is None and (not partial.exists() or done(partial) < wanted):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        finished.append(done(partial))
        assert not killed.exists()
    assert 0 < finished[0] < finished[1] < 16
    encode(index, backbone, Streams((6,), (2, 6)), killed, batch_size=2)
    assert not partial.exists()
    expected, found = contents(whole), contents(killed)
    assert expected.keys() == found.keys()
    for name in expected:
        assert np.array_equal(expected[name], found[name]), name


def done(partial: Path) -> int:
    """Finished images, read past the lock of the process that writes."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            return int(file["done"][:].sum())
    except OSError:
        return 0


def test_a_partial_cache_of_another_configuration_is_started_over(
    index: Path, backbone: Backbone, tiny_config: BackboneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, streams = tmp_path / "features.h5", Streams(local=(6,))
    other = load_backbone(tiny_config.model_copy(update={"weights": "random:1"}))
    calls = 0

    def interrupted(pixels: torch.Tensor, wanted: Streams) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return Backbone.encode_images(other, pixels, wanted)

    monkeypatch.setattr(other, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(index, other, streams, out, batch_size=4)
    encode(index, backbone, streams, out, batch_size=4)
    encode(index, backbone, streams, tmp_path / "fresh.h5", batch_size=4)
    assert np.array_equal(contents(out)["local/6"], contents(tmp_path / "fresh.h5")["local/6"])


def test_full_disk_is_one_clear_line_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the cache does not fit beneath it."""
    out = tmp_path / "features.h5"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    command = ["encode", "--index", str(index), "--out", str(out), "--local", "2,3,4,6", "--batch-size", "2"]
    settings = ["--set", "model=kanoclip-tiny", "--set", "weights=random:0", "--set", "image_size=32"]
    kanoclip = [sys.executable, "-m", "kanoclip", *command, *settings]
    result = subprocess.run(kanoclip, preexec_fn=limit, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "free space and run again" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(kanoclip, capture_output=True).returncode == 0
    assert contents(out)["done"].all()


def test_the_space_is_taken_before_the_first_image(
    index: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the start the disk may fill up: every block of the cache is already there."""

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backbone, "encode_images", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(index, backbone, Streams(local=(6,)), tmp_path / "features.h5")
    status = (tmp_path / "features.h5.partial").stat()
    assert status.st_blocks * 512 >= status.st_size >= 16 * 16 * 128 * 2
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="free space and run again"):
        encode(index, backbone, Streams(local=(2,)), tmp_path / "features.h5")


def test_another_configuration_is_refused(
    index: Path, features: Path, tiny_config: BackboneConfig, backbone: Backbone, all_streams: Streams
) -> None:
    cache = FeatureCache(features, images(index))
    cache.require(backbone.provenance(), all_streams, "the test")
    other = load_backbone(tiny_config.model_copy(update={"vv_start": 1}))
    with pytest.raises(
        InputError, match=r"than the test uses: backbone: expected \{'vv_start': 1\}, found \{'vv_start': 2\}"
    ):
        cache.require(other.provenance(), all_streams, "the test")
    with pytest.raises(InputError, match=r"needs Streams\(original=\(5,\)"):
        cache.require(backbone.provenance(), Streams(original=(5,)), "the test")


def test_missing_unfinished_and_foreign_caches_are_refused(index: Path, features: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run kanoclip encode"):
        FeatureCache(tmp_path / "features.h5", images(index))
    (tmp_path / "features.h5.partial").touch()
    with pytest.raises(InputError, match="was cut off; run it again"):
        FeatureCache(tmp_path / "features.h5", images(index))
    with pytest.raises(InputError, match="expected the 15 images of the index, found 16 others"):
        FeatureCache(features, images(index)[1:])


def test_a_vanished_image_is_named(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    text = index.read_text().replace("000.png", "999.png")
    (index.parent / "broken.csv").write_text(text)
    with pytest.raises(InputError, match="999.png: the index names this image"):
        encode(index.parent / "broken.csv", backbone, Streams(local=(6,)), tmp_path / "features.h5")


def test_features_beyond_fp16_are_refused(index: Path, tiny_config: BackboneConfig, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_config)
    with torch.no_grad():
        backbone.clip.visual.transformer.resblocks[-1].mlp.c_proj.bias.fill_(1e6)
    with pytest.raises(InputError, match="not finite or exceed fp16"):
        encode(index, backbone, Streams(original=(6,)), tmp_path / "features.h5")
