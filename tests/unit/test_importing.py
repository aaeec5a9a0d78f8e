"""Import weight files in the layouts of their authors, and compare our forward passes with formulas."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import bilinear, softmax
from torch import Tensor
from typer.testing import CliRunner

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Tap
from kanoclip.checkpoints import load_method, read_record
from kanoclip.cli import app
from kanoclip.methods import Batch, Method, method_class, method_names
from kanoclip.published_weights import load_release, release_names
from kanoclip.stages.importing import fill, load_plain, translate
from kanoclip.types import InputError

E, M, D = 12, 4, 128  # prompt length, deep length, text width
WIDTH, JOINT, LEVELS = 128, 128, 4  # of the tiny tower
GRID, SIZE = 4, 32
TRAINABLE = [name for name in method_names() if method_class(name).trainable]
UNKNOWN = Method.from_published.__func__
IMPORTABLE = [name for name in TRAINABLE if method_class(name).from_published.__func__ is not UNKNOWN]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def prompts(deep: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Return the content of a file of AnomalyCLIP for our text tower; files of Crane lack the projections."""
    state = {name: random(1, 1, E, D, seed=seed).to(dtype) for seed, name in enumerate(("ctx_pos", "ctx_neg"))}
    for number in range(deep):
        state[f"compound_prompts_text.{number}"] = random(M, D, seed=number).to(dtype)
        state[f"compound_prompt_projections.{number}.weight"] = torch.zeros(896, D)
        state[f"compound_prompt_projections.{number}.bias"] = torch.zeros(896)
    return {"prompt_learner": state}


def with_tokens(content: dict[str, Any], backbone: Backbone) -> dict[str, Any]:
    """Add the tables that a file of AnomalyCLIP contains as well."""
    state = content["prompt_learner"]
    for polarity, text in (("pos", "object."), ("neg", "damaged object.")):
        tokens = backbone.tokenize([" ".join(["X"] * E + [text])])
        embeddings = backbone.text.token_embedding(tokens)[None].detach()
        state[f"token_prefix_{polarity}"] = embeddings[:, :, :1]
        state[f"token_suffix_{polarity}"] = embeddings[:, :, 1 + E :]
        state[f"tokenized_prompts_{polarity}"] = tokens[None].int()
    return content


def layers(width: int = WIDTH, joint: int = JOINT) -> dict[str, Any]:
    """Return the content of a file of APRIL-GAN."""
    state = {}
    for level in range(LEVELS):
        state[f"fc.{level}.weight"] = random(joint, width, seed=level) / 10
        state[f"fc.{level}.bias"] = random(joint, seed=level)
    return {"trainable_linearlayer": state}


def adapters(width: int = WIDTH, joint: int = JOINT) -> dict[str, Any]:
    """Return the content of a file of MVFA-AD."""
    return {
        branch: {
            f"{level}.{part}.0.weight": random(*shape, seed=seed + level) / 10
            for level in range(LEVELS)
            for part, shape in (("fc1", (joint, width)), ("fc2", (width, joint)))
        }
        for seed, branch in ((0, "seg_adapters"), (50, "det_adapters"))
    }


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def build(name: str, path: Path, backbone: Backbone, **options: Any) -> Method[Any]:
    kind = method_class(name)
    method = kind(backbone, kind.Options(**options), 0)
    fill(method, translate(kind, [load_plain(path)], str(path)), str(path))
    return method.eval()


def refusal(name: str, path: Path, backbone: Backbone) -> str:
    with pytest.raises(InputError) as caught:
        build(name, path, backbone, **({"deep_depth": 3} if name == "anomalyclip" else {}))
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def batch_of(name: str, backbone: Backbone, pixels: Tensor) -> Batch:
    kind = method_class(name)
    features = backbone.encode_images(pixels, kind.reads(kind.Options(), backbone.shape))
    return Batch(["a", "b"], ["nut", "wood"], features)


def text_vectors(method: Method[Any]) -> np.ndarray:
    """Return text vectors (2, 2, C) of the classes of the two images."""
    return np.stack([method.text([name])[0].double().numpy() for name in ("nut", "wood")])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def maps_of(tokens: list[np.ndarray], text: np.ndarray) -> np.ndarray:
    """Return logits (B, K, 2, h, w) of K patch tensors (B, P, C) against texts (B, 2, C), times 100."""
    cosines = np.stack([100 * np.einsum("bpc,btc->btp", unit(level), text) for level in tokens], axis=1)
    return cosines.reshape(*cosines.shape[:3], GRID, GRID)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_imported_anomalyclip_equals_the_formulas(tmp_path: Path, backbone: Backbone, dtype: torch.dtype) -> None:
    """Join prefix, context and suffix; insert learned tokens before blocks 2 and 3, as in the authors' text encoder."""
    content = with_tokens(prompts(dtype=dtype), backbone)
    method = build("anomalyclip", save(content, tmp_path / "epoch_15.pth"), backbone, deep_depth=3)
    state, text = {name: t.float() for name, t in content["prompt_learner"].items()}, backbone.text
    for column, polarity in enumerate(("pos", "neg")):
        parts = (state[f"{part}_{polarity}"] for part in ("token_prefix", "ctx", "token_suffix"))
        with torch.no_grad():
            x = torch.cat(list(parts), dim=2)[0] + text.positional_embedding
            for number, block in enumerate(text.transformer.resblocks):
                if number > 0:
                    # the authors round theirs during use
                    deep = state[f"compound_prompts_text.{number - 1}"].half().float()
                    x = torch.cat([x[:, :1], deep[None], x[:, 1 + M :]], dim=1)
                x = block(x, attn_mask=text.attn_mask)
            end = state[f"tokenized_prompts_{polarity}"][0, 0].argmax()
            expected = text.ln_final(x)[0, end] @ text.text_projection
            found = method.prompts(backbone, ["whatever"])[0, column]
        torch.testing.assert_close(found, expected / expected.norm(), atol=1e-6, rtol=1e-5)


def test_imported_april_gan_equals_the_formulas(tmp_path: Path, backbone: Backbone, pixels: Tensor) -> None:
    content = layers()
    method = build("april_gan", save(content, tmp_path / "a.pth"), backbone, map_resolution="image")
    batch = batch_of("april_gan", backbone, pixels)
    state = {name: t.double().numpy() for name, t in content["trainable_linearlayer"].items()}
    tokens = [batch.features[Tap("tokens", tap)][:, 1:].double().numpy() for tap in backbone.quarters]
    projected = [x @ state[f"fc.{k}.weight"].T + state[f"fc.{k}.bias"] for k, x in enumerate(tokens)]
    with torch.no_grad():
        found = method(batch).map
        logits = maps_of(projected, text_vectors(method))
    expected = softmax(bilinear(logits, SIZE, aligned=True)).mean(1)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_imported_mvfa_equals_the_formulas(tmp_path: Path, backbone: Backbone, pixels: Tensor) -> None:
    """Run open_clip's tower block by block; the adapters mix with weights 0.8, 0.1 and 0.1."""
    content = adapters()
    method = build("mvfa", save(content, tmp_path / "Brain.pth"), backbone)
    batch = batch_of("mvfa", backbone, pixels)
    first, *_ = backbone.quarters
    x = batch.features[Tap("tokens", first)]
    compared: dict[str, list[np.ndarray]] = {"seg_adapters": [], "det_adapters": []}
    with torch.no_grad():
        for block in range(first, backbone.layers + 1):
            if block > first:
                x = backbone.clip.visual.transformer.resblocks[block - 1](x)
            if block not in backbone.quarters:
                continue
            level, mixed = backbone.quarters.index(block), 0.8 * x
            for branch, tokens in compared.items():
                middle = F.leaky_relu(x @ content[branch][f"{level}.fc1.0.weight"].T)
                mixed = mixed + 0.1 * F.leaky_relu(middle @ content[branch][f"{level}.fc2.0.weight"].T)
                tokens.append(middle[:, 1:].double().numpy())
            x = mixed
        found = method(batch)
        text = text_vectors(method)
    maps, scores = (softmax(maps_of(compared[branch], text)) for branch in ("seg_adapters", "det_adapters"))
    assert maps.std() > 1e-3
    np.testing.assert_allclose(found.map, maps.mean(1), atol=1e-4)
    np.testing.assert_allclose(found.image_score, scores.mean((1, 2, 3)), atol=1e-5)


def test_released_sizes_give_the_published_numbers_of_parameters() -> None:
    """ViT-L/14: 43,008; 3,148,800; 12,582,912."""
    state = {name: torch.zeros(1, 1, 12, 768) for name in ("ctx_pos", "ctx_neg")}
    state |= {f"compound_prompts_text.{number}": torch.zeros(4, 768) for number in range(8)}
    contents = {
        "anomalyclip": ({"prompt_learner": state}, 43_008),
        "april_gan": (layers(1024, 768), 3_148_800),
        "mvfa": (adapters(1024, 768), 12_582_912),
    }
    for name, (content, count) in contents.items():
        learned = translate(method_class(name), [content], name)
        assert sum(value.numel() for value in learned.values()) == count


def test_without_deep_prompts_only_the_context_is_learned(tmp_path: Path, backbone: Backbone) -> None:
    method = build("anomalyclip", save(prompts(deep=0), tmp_path / "a.pth"), backbone, deep_depth=1)
    assert sum(parameter.numel() for parameter in method.learned().values()) == 2 * E * D


@pytest.mark.parametrize("name", ["anomalyclip", "april_gan", "mvfa"])
def test_the_command_writes_a_checkpoint_that_loads(tmp_path: Path, backbone: Backbone, name: str) -> None:
    content = {"anomalyclip": prompts, "april_gan": layers, "mvfa": adapters}[name]()
    source, out = save(content, tmp_path / "weights.pth"), tmp_path / "checkpoint.safetensors"
    keys = {"model": "kanoclip-test", "weights": "random:0", "image_size": SIZE, "activation": "auto"}
    keys |= {"position_resize": "bicubic_antialias", "vv_start": "null", "normalisation": "model"}
    keys["towers"] = json.dumps(backbone.config.model_dump(mode="json")["towers"])
    options = [part for key, value in keys.items() for part in ("--backbone-set", f"{key}={value}")]
    options += ["--backbone-set", "partial_patches=refuse", *(["--set", "deep_depth=3"] * (name == "anomalyclip"))]
    result = CliRunner().invoke(
        app, ["import", name, str(source), "--out", str(out), "--auxiliary", "visa", "--threads", "1", *options]
    )
    assert result.exit_code == 0, result.output
    method = load_method(out, backbone, name)
    for key, value in translate(method_class(name), [content], "").items():
        assert torch.equal(method.learned()[key], value), key
    record = read_record(out)
    assert (record["auxiliary"], record["seed"]) == ("visa", 0)
    assert record["imported"]["licence"] == "MIT" and list(record["imported"]["files"]) == ["weights.pth"]
    assert record["options"].items() >= {**method_class(name).published_on.get("visa", {})}.items()


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("ctx_pos", torch.zeros(1, 1, E, 768), "ctx_neg: expected shape (1, 1, 12, 768)"),
        ("ctx_pos", torch.zeros(E, D), "ctx_pos: expected shape (1, 1, any, any)"),
        ("ctx_neg", torch.zeros(1, 1, E - 1, D), "ctx_neg: expected shape (1, 1, 12, 128)"),
        ("ctx_neg", torch.zeros(1, 2, E, D), "ctx_neg: expected shape (1, 1, 12, 128)"),
        ("compound_prompts_text.1", torch.zeros(M + 1, D), "compound_prompts_text.1: expected shape (4, 128)"),
        ("compound_prompts_text.2", torch.zeros(M, D), "prompts.deep.layers: expected (2, 4, 128), found (3, 4, 128)"),
        ("ctx_neg", torch.full((1, 1, E, D), torch.nan), "prompts.context: expected finite"),
        ("ctx_neg", torch.zeros(1, 1, 0, D), "ctx_neg: expected shape (1, 1, 12, 128)"),
        ("tokenized_prompts_neg", torch.zeros(1, 1, 77), "expected the tokens of 'x x x"),
    ],
)
def test_tensors_of_a_wrong_shape_are_refused(
    tmp_path: Path, backbone: Backbone, name: str, tensor: Tensor, expected: str
) -> None:
    content = with_tokens(prompts(), backbone)
    content["prompt_learner"][name] = tensor
    assert expected in refusal("anomalyclip", save(content, tmp_path / "a.pth"), backbone)


@pytest.mark.parametrize(
    ("name", "entry", "missing", "expected"),
    [
        ("anomalyclip", "prompt_learner", "ctx_pos", "ctx_pos: expected shape"),
        ("anomalyclip", "prompt_learner", "compound_prompts_text.1", "found (1, 4, 128)"),
        ("april_gan", "trainable_linearlayer", "fc.1.bias", "fc.1.bias: expected shape (128,), found none"),
        ("april_gan", "trainable_linearlayer", "fc.3.weight", "projections.3.bias: expected (128,), found none"),
        ("mvfa", "det_adapters", "0.fc1.0.weight", "0.fc1.0.weight: expected shape (any, any), found none"),
        ("mvfa", "seg_adapters", "2.fc2.0.weight", "2.fc2.0.weight: expected shape (128, 128), found none"),
    ],
)
def test_missing_tensors_are_refused(
    tmp_path: Path, backbone: Backbone, name: str, entry: str, missing: str, expected: str
) -> None:
    content = {"anomalyclip": prompts, "april_gan": layers, "mvfa": adapters}[name]()
    del content[entry][missing]
    assert expected in refusal(name, save(content, tmp_path / "a.pth"), backbone)


@pytest.mark.parametrize("name", IMPORTABLE)
@pytest.mark.parametrize(
    "content", [{}, {"state_dict": {}}, {"prompt_learner": torch.zeros(2)}, [1, 2], None, {"a": {"b": torch.zeros(2)}}]
)
def test_other_contents_are_refused_in_one_line(name: str, tmp_path: Path, backbone: Backbone, content: Any) -> None:
    refusal(name, save(content, tmp_path / "a.pth"), backbone)


@pytest.mark.parametrize("name", sorted(set(TRAINABLE) & set(release_names())))
def test_every_trainable_method_with_published_weights_can_import_them(name: str) -> None:
    assert name in IMPORTABLE
    assert load_release(name).layout and load_release(name).licence


@pytest.mark.parametrize("name", sorted(set(TRAINABLE) - set(IMPORTABLE)))
def test_methods_without_a_known_layout_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no published layout is known"):
        method_class(name).from_published([{}])


class Touch:
    """Create a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_executed(tmp_path: Path, backbone: Backbone) -> None:
    content = prompts()
    content["prompt_learner"]["surprise"] = Touch(tmp_path / "ran")
    assert "found code" in refusal("anomalyclip", save(content, tmp_path / "a.pth"), backbone)
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol=2))
    assert "found code" in refusal("anomalyclip", tmp_path / "b.pth", backbone)
    assert not (tmp_path / "ran").exists()


def test_only_tensors_texts_and_numbers_are_read(tmp_path: Path, backbone: Backbone) -> None:
    """Objects that torch would load safely, but that are neither tensor, text nor number, are refused."""
    content = prompts() | {"dtype": [torch.float32]}
    assert "found dtype" in refusal("anomalyclip", save(content, tmp_path / "a.pth"), backbone)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: b"GIF89a", lambda content: content[:-4000]])
def test_damaged_files_are_refused(tmp_path: Path, backbone: Backbone, damage: Any) -> None:
    path = save(prompts(), tmp_path / "a.pth")
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in refusal("anomalyclip", path, backbone)
