"""Test second towers beside CLIP's: tiny ViTs of timm with registers, layer scale and rotary positions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from kanoclip.backbones.clip import Backbone, load_backbone
from kanoclip.backbones.second import load_tower, tower_identity
from kanoclip.backbones.taps import Tap
from kanoclip.backbones.weights import weights_identity
from kanoclip.config import BackboneConfig, TowerConfig, parse
from kanoclip.datasets.index import read_index
from kanoclip.features import CachedFeatures, FeatureCache, LiveFeatures, encode
from kanoclip.types import InputError

TINY = {"embed_dim": 32, "depth": 4, "num_heads": 2}
DINO2 = "vit_small_patch14_reg4_dinov2.lvd142m"  # learned positions, 4 registers, layer scale, mean of ImageNet
DINO3 = "vit_small_patch16_dinov3.lvd1689m"  # rotary positions, 4 registers
NORMAL, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    create: Callable[..., object] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **settings: create(name, **TINY, **settings))


def config(**towers: dict[str, object]) -> BackboneConfig:
    return parse(
        BackboneConfig, {"model": "kanoclip-test", "weights": "random:0", "image_size": 32, "towers": towers}, ""
    )


def with_towers() -> Backbone:
    backbone = load_backbone(
        config(
            dino={"model": DINO2, "weights": "random:3", "image_size": 56},
            three={"model": DINO3, "weights": "random:4"},
        )
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.towers.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def as_tower_sees(side: int) -> Tensor:
    rgb = torch.from_numpy(images()).permute(0, 3, 1, 2) / 255
    if side != rgb.shape[-1]:
        rgb = F.interpolate(rgb, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return (rgb - NORMAL.view(3, 1, 1)) / DEVIATION.view(3, 1, 1)


@pytest.mark.parametrize(("name", "side", "patches"), [("dino", 56, 16), ("three", 32, 4)])
def test_taps_equal_timms_tokens_without_registers(name: str, side: int, patches: int) -> None:
    backbone = with_towers()
    trunk = backbone.towers[name].trunk
    taps = [Tap("tokens", 2, name), Tap("tokens", 4, name), Tap("cls", 4, name), Tap("pixels", 8, name)]
    found = backbone.encode_images(backbone.normalise(images()), [*taps, Tap("cls", 6)])
    with torch.no_grad():
        blocks = trunk.forward_intermediates(
            as_tower_sees(side), return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
        whole = trunk.forward_features(as_tower_sees(side))
    for at in (2, 4):
        tokens, prefix = blocks[at - 1]
        assert tokens.shape[1] == patches and prefix.shape[1] == 5
        expected = torch.cat([prefix[:, :1], tokens], dim=1)
        torch.testing.assert_close(found[Tap("tokens", at, name)], expected, atol=1e-4, rtol=1e-4)
    projected = backbone.towers[name].project(found[Tap("cls", 4, name)])
    torch.testing.assert_close(projected, F.normalize(whole[:, 0], dim=-1), atol=1e-5, rtol=1e-4)
    assert backbone.feature_shapes(taps)[Tap("tokens", 2, name)] == (1 + patches, 32)


def test_a_second_tower_does_not_change_clip() -> None:
    taps = [Tap("vv", 6), Tap("cls", 6)]
    alone, beside = load_backbone(config()), load_backbone(config(dino={"model": DINO3, "weights": "random:4"}))
    expected = alone.encode_images(alone.normalise(images()), taps)
    found = beside.encode_images(beside.normalise(images()), [*taps, Tap("tokens", 1, "dino")])
    for tap in taps:
        assert torch.equal(found[tap], expected[tap])


@pytest.mark.parametrize("name", ["dino", "three"])
def test_local_stream_equals_loops_over_heads(name: str) -> None:
    """Registers take part in the attention and are dropped from the tap."""
    tower = with_towers().towers[name]
    with torch.no_grad():
        inputs = [tower.embed(as_tower_sees(tower.image_size))]
        for number in (1, 2, 3):
            inputs.append(tower.block(number, inputs[-1]))
        s = inputs[0]
        for number in (1, 2, 3):
            block = tower.trunk.blocks[number - 1]
            attention, x = block.attn, block.norm1(inputs[number - 1])
            bias = attention.qkv.bias[64:] if attention.qkv.bias is not None else 0
            v = x @ attention.qkv.weight[64:].T + bias
            heads = [(part @ part.transpose(1, 2) / 4).softmax(-1) @ part for part in v.split(16, dim=-1)]
            added = torch.cat(heads, -1) @ attention.proj.weight.T + attention.proj.bias
            s = s + added * (block.ls1.gamma if hasattr(block, "ls1") else block.gamma_1)
        found = tower.encode(as_tower_sees(tower.image_size), [Tap("vv", 3, name)])[Tap("vv", 3, name)]
        trained = tower.attend(2, inputs[1], F.scaled_dot_product_attention)
        block = tower.trunk.blocks[1]
        theirs = block.attn(block.norm1(inputs[1]), **({"rope": tower.rope} if tower.rotary else {}))
        theirs = theirs * (block.ls1.gamma if hasattr(block, "ls1") else block.gamma_1)
    torch.testing.assert_close(found, torch.cat([s[:, :1], s[:, 5:]], dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(trained, theirs, atol=1e-5, rtol=1e-4)


def test_windows_include_registers() -> None:
    """A window as large as the image equals the image in a tower with registers too."""
    tower = with_towers().towers["dino"]
    pixels = as_tower_sees(56)
    with torch.no_grad():
        window, whole = (tower.encode(pixels, [tap])[tap] for tap in (Tap("windows", 4, "dino"), Tap("cls", 4, "dino")))
        torch.testing.assert_close(window[:, 0], tower.project(whole), atol=1e-5, rtol=1e-4)


def test_live_and_cached_features_of_a_second_tower_are_equal(index: Path, tmp_path: Path) -> None:
    backbone, out = with_towers(), tmp_path / "features.h5"
    taps = [Tap("tokens", 2, "dino"), Tap("vv", 3, "three"), Tap("cls", 6)]
    frame = read_index(index)
    encode(index, backbone, taps, out, batch_size=4, workers=1)
    cached = CachedFeatures(FeatureCache(out, frame), backbone)
    cached.require(taps, "the test")
    batches = [range(0, 4), range(4, 8)]
    live = LiveFeatures(frame, backbone)
    for read, computed in zip(cached.stream(batches, taps), live.stream(batches, taps), strict=True):
        for tap in taps:
            assert torch.equal(read[tap], computed[tap])


def test_weights_are_loaded_from_a_file_and_identified_by_content(tmp_path: Path) -> None:
    donor = load_tower("dino", TowerConfig(model=DINO2, weights="random:5"), 56)
    paths = [tmp_path / name / "weights.safetensors" for name in ("here", "there")]
    for path in paths:
        path.parent.mkdir()
        save_file({name: tensor.contiguous() for name, tensor in donor.trunk.state_dict().items()}, path)
    settings = [TowerConfig(model=DINO2, weights=str(path)) for path in paths]
    loaded = load_tower("dino", settings[0], 56)
    for name, tensor in donor.trunk.state_dict().items():
        assert torch.equal(loaded.trunk.state_dict()[name], tensor), name
    here, there = (config(dino={"model": DINO2, "weights": str(path), "image_size": 56}) for path in paths)
    assert load_backbone(here).provenance() == load_backbone(there).provenance()
    assert tower_identity("dino", settings[0]) in weights_identity(here)
    others = [
        config(),
        config(dino={"model": DINO2, "weights": "random:5", "image_size": 56}),
        config(dino={"model": DINO2, "weights": "random:6", "image_size": 56}),
    ]
    assert len({weights_identity(one) for one in [here, *others]}) == 4
    resized = load_tower("dino", settings[0], 28)
    assert resized.grid == (2, 2) and resized.trunk.pos_embed.shape[1] == 4


def test_published_weights_are_downloaded_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = load_tower("dino", TowerConfig(model=DINO2, weights="random:5"), 56)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in donor.trunk.state_dict().items()}, path)

    def download(repository: str, file: str) -> str:
        assert (repository, file) == ("timm/vit_small_patch14_reg4_dinov2.lvd142m", "model.safetensors")
        if not path.exists():
            raise ConnectionError("no network")
        return str(path)

    monkeypatch.setattr("kanoclip.backbones.second.hf_hub_download", download)
    found = load_tower("dino", TowerConfig(model=DINO2), 56)
    assert torch.equal(found.trunk.blocks[3].mlp.fc1.weight, donor.trunk.blocks[3].mlp.fc1.weight)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot download timm/\S+ from the Hugging Face hub \(no network\)"):
        load_tower("dino", TowerConfig(model=DINO2), 56)


@pytest.mark.parametrize(
    ("tower", "reason"),
    [
        (
            {"model": "vit_small_patch14_reg4_dinov3"},
            "unknown model of tower dino: 'vit_small_patch14_reg4_dinov3'; did",
        ),
        ({"model": DINO2, "weights": "random:x"}, "such as random:0"),
        ({"model": DINO2, "weights": "no/such/file"}, "neither a file nor random:SEED, nor 'pretrained'"),
        ({"model": DINO2, "weights": "random:0"}, "image_size 32 is not a multiple of 14"),
        ({"model": DINO3, "weights": "random:0", "vv_start": 5}, "vv_start 5 must be at most 4"),
        ({"model": "vit_base_patch16_siglip_224", "weights": "random:0"}, "it has no class token"),
        ({"model": "vit_relpos_medium_patch16_cls_224", "weights": "random:0"}, "it is a VisionTransformerRelPos"),
    ],
)
def test_unusable_second_towers_are_refused(tower: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        load_backbone(config(dino=tower))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"something": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="tower dino: .* holds no cls_token"):
        load_tower("dino", TowerConfig(model=DINO2, weights=str(path)), 56)


@pytest.mark.parametrize("name", ["clip", "a:b", "a/b", "Dino", ""])
def test_invalid_names_of_towers_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="a tower's name"):
        config(**{name: {"model": DINO2}})
