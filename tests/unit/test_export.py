"""ONNX files give the outputs of PyTorch on the embedded backbone and run without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from kanoclip.backbones.clip import load_backbone
from kanoclip.checkpoints import save_checkpoint
from kanoclip.config import BackboneConfig
from kanoclip.datasets.images import load_square
from kanoclip.maps import final_map
from kanoclip.methods import Batch, method_class, method_names
from kanoclip.stages.export import Source, export, run_onnx
from kanoclip.types import InputError

BACKBONE = {"model": "kanoclip-tiny", "weights": "embedded", "image_size": 128}
NAME = 'bolt with "quotes", a \' and\nü'
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_without_torch.py"
EXPORTED = [name for name in method_names() if name not in ("oracle", "random", "adaclip")]
OPTIONS = {
    "anoclip": {"views": 3},
    "crane": {"context_in_scoring": False},
    "crane_plus": {"context_in_scoring": False},
}
SECOND = {"dino": {"model": "vit_tiny_patch16_224", "weights": "random:0", "image_size": 64}}  # for crane_plus


@pytest.fixture(scope="module")
def embedded():
    return load_backbone(BackboneConfig(**BACKBONE, towers=SECOND))


def exported(name, backbone, folder, options):
    """Export a method with random parameters; return the path of model.onnx and the method."""
    kind = method_class(name)
    torch.manual_seed(0)
    method = kind(backbone, kind.Options(**options), 0).eval()
    out = folder / "a folder" / "modèl.onnx"
    if not kind.trainable:
        export(Source(method=name, options=options), NAME, out, BACKBONE)
        return out, method
    with torch.no_grad():  # like training: parameters initialised with zeros would hide the parts after them
        for parameter in method.learned().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    record = {"method": name, "options": method.options.model_dump(mode="json"), "auxiliary": "drawn", "seed": 0}
    save_checkpoint(folder / "checkpoint.safetensors", method, record)
    export(Source(checkpoint=folder / "checkpoint.safetensors"), NAME, out)
    return out, method


@torch.no_grad()
def by_pytorch(method, images):
    """Return the final maps and scores as scoring computes them, with one class name per image."""
    taps = method.reads(method.options, method.backbone.shape)
    features = method.backbone.encode_images(method.backbone.normalise(images), taps)
    output = method(Batch([str(n) for n in range(len(images))], [NAME] * len(images), features))
    return final_map(output.map, 128, method.sigma).numpy(), output.image_score.numpy()


def check(name, backbone, folder):
    path, method = exported(name, backbone, folder, OPTIONS.get(name, {}))
    images = np.random.default_rng(5).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    for some in (images[:1], images):
        for found, expected in zip(run_onnx(path, some), by_pytorch(method, some), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4)
    return path, method


def test_onnx_gives_the_outputs_of_pytorch_and_runs_without_torch(embedded, tmp_path):
    path, _ = check("clip", embedded, tmp_path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (about["class_name"], about["method"], about["image_size"]) == (NAME, "clip", "128")
    image = tmp_path / "an image.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 140, 3), dtype=np.uint8)).save(image)
    turned = tmp_path / "turned.png"  # stored on its side, with the orientation that turns it upright again
    (exif := Image.Exif())[0x0112] = 6
    Image.open(image).transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(deep)
    without = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-c", without, str(EXAMPLE), str(path)]
    done = subprocess.run([*command, str(image), str(turned), str(deep)], capture_output=True, text=True)
    _, scores = run_onnx(path, load_square(image, 128)[None])
    assert done.stdout == f"{scores[0]:.4f}  {image}\n{scores[0]:.4f}  {turned}\n"
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and f"{deep}: expected 8 bits" in done.stderr
    assert Image.open(f"{image}.map.png").size == (128, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_every_method_that_reads_images_is_exported(name, embedded, tmp_path):
    check(name, embedded, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(), "give --checkpoint, or --method"),
        (Source(Path("x"), "clip"), "give --checkpoint, or --method"),
        (Source(method="kanoclip"), "method kanoclip is trained: give its --checkpoint"),
        (Source(method="klip"), "unknown method 'klip'; did you mean 'clip'"),
        (Source(Path("x"), options={"a": 1, "b": 2}), "x: a checkpoint has its options; found others: a, b"),
        (Source(method="oracle"), "method oracle cannot be exported: it reads no image"),
        (Source(method="random"), "method random cannot be exported: it reads no image"),
    ],
)
def test_a_method_that_cannot_be_exported_is_refused_in_one_line(source, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        export(source, "bolt", tmp_path / "model.onnx", BACKBONE)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("adaclip", "it clusters the patches of each image by k-means"),
        ("crane", "its text vectors depend on the image; train it with context_in_scoring: false"),
    ],
)
def test_a_method_that_onnx_cannot_express_is_refused(name, reason, embedded, tmp_path):
    with pytest.raises(InputError, match=f"^method {name} cannot be exported: {reason}$"):
        exported(name, embedded, tmp_path, {})
    assert not (tmp_path / "a folder").exists()


def test_missing_packages_and_names_are_reported_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--class-name: expected the name of a class"):
        export(Source(method="clip"), " ", tmp_path / "model.onnx", BACKBONE)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r'needs the package onnxscript; run: pip install "kanoclip\[export\]"'):
        export(Source(method="clip"), "bolt", tmp_path / "model.onnx", BACKBONE)


def test_an_export_that_differs_from_pytorch_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("kanoclip.stages.export.run_onnx", lambda path, images: (np.zeros(1), np.zeros(1)))
    with pytest.raises(InputError, match="clip cannot be exported: ONNX differs from PyTorch by inf"):
        export(Source(method="clip"), "bolt", tmp_path / "model.onnx", BACKBONE)
    assert list(tmp_path.iterdir()) == []
