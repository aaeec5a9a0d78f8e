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
import open_clip
import pytest
import torch

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.config import BackboneConfig
from kanoclip.datasets.images import load_image, load_square
from kanoclip.datasets.index import read_index
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures, cache, encode
from kanoclip.types import InputError

SLOW_ENCODE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import kanoclip.features.cache as features
from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig
write = features._write
def slow(*args):
    write(*args)
    time.sleep(0.2)
features._write = slow
backbone = load_backbone(BackboneConfig(model="kanoclip-test", weights="random:0", image_size=32))
taps = [Tap.parse(text) for text in sys.argv[3:]]
features.encode(Path(sys.argv[1]), backbone, taps, Path(sys.argv[2]), batch_size=2)
"""
LOCAL = [Tap("vv", 6)]
SEVERAL = [Tap("tokens", 6), Tap("vv", 2), Tap("vv", 6)]


def contents(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return {name: file[name][:] for name in names}


def test_the_cache_holds_the_outputs_of_the_tower(
    index: Path, features: Path, backbone: Backbone, all_taps: frozenset[Tap]
) -> None:
    frame = read_index(index)
    cache = FeatureCache(features, frame)
    rows = [7, 0, 12]
    pixels = backbone.normalise(np.stack([load_square(frame["image_path"][row], 32) for row in rows]))
    expected = backbone.encode_images(pixels, all_taps)
    found = cache.read(rows, all_taps)
    assert found.keys() == expected.keys() == all_taps
    for tap in all_taps:
        torch.testing.assert_close(found[tap].float(), expected[tap], atol=5e-3, rtol=2e-3)


def test_preprocessing_equals_open_clips(index: Path, tiny_config: BackboneConfig) -> None:
    """Compare with its transforms for evaluation, on images that are not square."""
    backbone = load_backbone(tiny_config)
    mean, deviation = backbone.clip.visual.image_mean, backbone.clip.visual.image_std
    transform = open_clip.image_transform(32, False, mean, deviation, resize_mode="squash", interpolation="bicubic")
    opened = [load_image(path) for path in read_index(index)["image_path"][:3]]
    expected = torch.stack([transform(image) for image in opened])
    found = backbone.normalise(np.stack([load_square(path, 32) for path in read_index(index)["image_path"][:3]]))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_the_number_of_workers_changes_nothing(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    one, three = tmp_path / "one.h5", tmp_path / "three.h5"
    encode(index, backbone, LOCAL, one, batch_size=3)
    encode(index, backbone, LOCAL, three, batch_size=3, workers=3)
    assert np.array_equal(contents(one)["vv/6"], contents(three)["vv/6"])


def test_the_error_names_an_image_damaged_after_prepare(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(read_index(index)["image_path"][9]).read_bytes()[:200])
    (tmp_path / "index.csv").write_text(
        index.read_text().splitlines()[0] + f"\nbroken.png,,nut,0,good,test,{'0' * 32},\n"
    )
    with pytest.raises(InputError) as caught:
        encode(tmp_path / "index.csv", backbone, LOCAL, tmp_path / "features.h5", workers=2)
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "features.h5").exists()


def test_the_cache_has_one_fp16_chunk_per_image(features: Path) -> None:
    with h5py.File(features) as file:
        for dataset in (file["cls/6"], file["vv/6"]):
            assert dataset.dtype == np.float16
            assert dataset.chunks == (1, *dataset.shape[1:])
        assert file["done"][:].all()


def test_kill_and_resume_gives_the_same_cache(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    """Kill encoding with SIGKILL twice; after the third run no features are lost, duplicated or changed."""
    whole, killed = tmp_path / "whole.h5", tmp_path / "killed.h5"
    encode(index, backbone, SEVERAL, whole, batch_size=2)
    partial = tmp_path / "killed.h5.partial"
    finished = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", SLOW_ENCODE, str(index), str(killed), *map(str, SEVERAL)])
        wanted = (finished[-1] if finished else 0) + 4
        while process.poll() is None and (not partial.exists() or done(partial) < wanted):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        finished.append(done(partial))
        assert not killed.exists()
    assert 0 < finished[0] < finished[1] < 16
    encode(index, backbone, SEVERAL, killed, batch_size=2)
    assert not partial.exists()
    expected, found = contents(whole), contents(killed)
    assert expected.keys() == found.keys()
    for name in expected:
        assert np.array_equal(expected[name], found[name]), name


def done(partial: Path) -> int:
    """Return the number of finished images, reading without the lock of the writing process."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            return int(file["done"][:].sum())
    except OSError:
        return 0


def test_a_partial_cache_of_another_configuration_is_computed_again(
    index: Path, backbone: Backbone, tiny_config: BackboneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, taps = tmp_path / "features.h5", LOCAL
    other = load_backbone(tiny_config.model_copy(update={"weights": "random:1"}))
    calls = 0

    def interrupted(pixels: torch.Tensor, wanted: list[Tap]) -> Features:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return Backbone.encode_images(other, pixels, wanted)

    monkeypatch.setattr(other, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(index, other, taps, out, batch_size=4)
    encode(index, backbone, taps, out, batch_size=4)
    encode(index, backbone, taps, tmp_path / "fresh.h5", batch_size=4)
    assert np.array_equal(contents(out)["vv/6"], contents(tmp_path / "fresh.h5")["vv/6"])


def test_a_partial_cache_of_other_code_is_computed_again(
    index: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code that stores features changes between an interrupted run and the next."""
    out, write, calls = tmp_path / "features.h5", cache._write, 0

    def other_code(file: h5py.File, rows: range, features: Features) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        write(file, rows, {tap: 0 * value for tap, value in features.items()})

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache, "_write", other_code)
        patch.setattr(cache, "digest", lambda module: "other code")
        encode(index, backbone, LOCAL, out, batch_size=4)
    encode(index, backbone, LOCAL, out, batch_size=4)
    encode(index, backbone, LOCAL, tmp_path / "fresh.h5", batch_size=4)
    assert np.array_equal(contents(out)["vv/6"], contents(tmp_path / "fresh.h5")["vv/6"])


def test_a_full_disk_gives_one_line_and_leaves_no_file(index: Path, tmp_path: Path) -> None:
    """A limit on file sizes, which the cache exceeds, stands in for the full disk."""
    out = tmp_path / "features.h5"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    blocks = [part for block in (2, 3, 4, 6) for part in ("--tap", f"vv/{block}")]
    command = ["encode", "--index", str(index), "--out", str(out), *blocks, "--batch-size", "2"]
    settings = ["--set", "model=kanoclip-test", "--set", "weights=random:0", "--set", "image_size=32"]
    kanoclip = [sys.executable, "-m", "kanoclip", *command, *settings]
    result = subprocess.run(kanoclip, preexec_fn=limit, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "free space and run again" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(kanoclip, capture_output=True).returncode == 0
    assert contents(out)["done"].all()


def test_disk_space_is_allocated_before_the_first_image(
    index: Path, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk can fill up later, because every block of the cache is already allocated."""

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveFeatures, "of_images", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(index, backbone, LOCAL, tmp_path / "features.h5")
    status = (tmp_path / "features.h5.partial").stat()
    assert status.st_blocks * 512 >= status.st_size >= 16 * 16 * 128 * 2
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="free space and run again"):
        encode(index, backbone, [Tap("vv", 2)], tmp_path / "features.h5")


def test_another_configuration_is_refused(
    index: Path, features: Path, tiny_config: BackboneConfig, backbone: Backbone, all_taps: frozenset[Tap]
) -> None:
    cache = FeatureCache(features, read_index(index))
    cache.require(backbone.provenance(), all_taps, "the test")
    other = load_backbone(tiny_config.model_copy(update={"vv_start": 1}))
    with pytest.raises(
        InputError, match=r"than the test uses: backbone: expected \{'vv_start': 1\}, found \{'vv_start': 2\}"
    ):
        cache.require(other.provenance(), all_taps, "the test")
    absent = next(tap for tap in (Tap("qkv", block) for block in range(1, 7)) if tap not in all_taps)
    with pytest.raises(InputError, match=rf"the test needs the tap {absent}, the cache holds calibrated/4, cls/6"):
        cache.require(backbone.provenance(), [absent, Tap("cls", 6)], "the test")


def test_missing_unfinished_and_foreign_caches_are_refused(index: Path, features: Path, tmp_path: Path) -> None:
    frame = read_index(index)
    with pytest.raises(InputError, match="run kanoclip encode"):
        FeatureCache(tmp_path / "features.h5", frame)
    with h5py.File(tmp_path / "scores.h5", "w"), pytest.raises(InputError, match="found another kind of file"):
        FeatureCache(tmp_path / "scores.h5", frame)
    with pytest.raises(InputError, match="index.csv: expected a feature cache, found another kind of file"):
        FeatureCache(index, frame)
    (tmp_path / "features.h5.partial").touch()
    with pytest.raises(InputError, match="was cut off; run it again"):
        FeatureCache(tmp_path / "features.h5", frame)
    with pytest.raises(InputError, match="expected the 15 images of the index, found others or in another order"):
        FeatureCache(features, frame[1:])
    relabelled = frame.assign(label=1 - frame["label"])
    with pytest.raises(InputError, match="expected the 16 images of the index, found others"):
        FeatureCache(features, relabelled)


def test_the_error_names_a_missing_image(index: Path, backbone: Backbone, tmp_path: Path) -> None:
    text = index.read_text().replace("000.png", "999.png")
    (index.parent / "broken.csv").write_text(text)
    with pytest.raises(InputError, match="999.png: no such image; if an index names it, prepare the dataset again"):
        encode(index.parent / "broken.csv", backbone, LOCAL, tmp_path / "features.h5")


def test_features_outside_the_range_of_fp16_are_refused(
    index: Path, tiny_config: BackboneConfig, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_config)
    with torch.no_grad():
        backbone.clip.visual.transformer.resblocks[-1].mlp.c_proj.bias.fill_(1e6)
    with pytest.raises(InputError, match="tokens/6: not finite, or too large for fp16"):
        encode(index, backbone, [Tap("tokens", 6)], tmp_path / "features.h5")


def test_live_and_cached_features_are_equal(
    index: Path, features: Path, backbone: Backbone, all_taps: frozenset[Tap]
) -> None:
    """Read in any order, in the batches of the cache and in others, kept in memory or not."""
    frame = read_index(index)
    live, cache = LiveFeatures(frame, backbone, workers=2), FeatureCache(features, frame)
    batches = [range(5), range(5, 10), range(10, 15), range(15, 16)]
    kept, read = (CachedFeatures(cache, backbone, keep=keep) for keep in (True, False))
    for found, *others in zip(*(source.stream(batches, all_taps) for source in (live, kept, read)), strict=True):
        assert found.keys() == all_taps
        for other in others:
            assert other.keys() == all_taps
            for tap in all_taps:
                assert other[tap].dtype == torch.float32
                # on some processors the batch size changes sums, which moves a value or two by one fp16 step
                torch.testing.assert_close(found[tap], other[tap], rtol=2**-10, atol=1e-5)
    order = [[7, 0, 12], [3]]
    for found, other in zip(kept.stream(order, all_taps), read.stream(order, all_taps), strict=True):
        assert all(torch.equal(found[tap], other[tap]) for tap in all_taps)


def test_rows_are_returned_in_the_requested_order(index: Path, backbone: Backbone) -> None:
    live, tap = LiveFeatures(read_index(index), backbone), Tap("pixels", 32)
    forward, backward = (next(iter(live.stream([rows], [tap])))[tap] for rows in ([1, 9, 4], [4, 9, 1]))
    assert torch.equal(forward, backward.flip(0)) and not torch.equal(forward[0], forward[1])


def test_kept_taps_are_read_once_and_new_ones_added(
    index: Path, features: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(features, read_index(index))
    source, asked = CachedFeatures(cache, backbone, keep=True), []
    read = cache.read
    monkeypatch.setattr(cache, "read", lambda rows, taps: asked.append(sorted(taps)) or read(rows, taps))
    for taps in ([Tap("vv", 6)], [Tap("vv", 6)], [Tap("vv", 6), Tap("cls", 6)]):
        assert all(found.keys() == set(taps) for found in source.stream([[0, 1], [2]], taps))
    assert asked == [[Tap("vv", 6)], [Tap("cls", 6)]]


def test_the_computed_size_of_taps_is_their_real_size(index: Path, features: Path, all_taps: frozenset[Tap]) -> None:
    found = contents(features)
    expected = sum(value.nbytes for name, value in found.items() if "/" in name and not name.startswith("checksum/"))
    cache = FeatureCache(features, read_index(index))
    assert cache.size_of(all_taps) == expected
    assert cache.size_of([Tap("vv", 6)]) == found["vv/6"].nbytes


def test_methods_without_taps_read_no_image(index: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanoclip.datasets.image_loader.load_square", None)
    assert list(LiveFeatures(read_index(index), backbone).stream([[0, 1], [2]], [])) == [{}, {}]


def test_images_are_loaded_only_a_few_batches_ahead(
    index: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, loaded = read_index(index), []
    monkeypatch.setattr(
        "kanoclip.datasets.image_loader.load_square", lambda path, size: loaded.append(path) or load_square(path, size)
    )
    stream = LiveFeatures(frame, backbone).stream([[row] for row in range(16)], [Tap("pixels", 8)])
    next(stream)
    stream.close()
    assert 1 <= len(loaded) <= 3 and loaded == frame["image_path"].tolist()[: len(loaded)]
