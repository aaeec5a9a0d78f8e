import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from kanoclip.backbones.clip import Backbone
from kanoclip.checkpoints import load_method, read_record
from kanoclip.cli import app
from kanoclip.methods.imported import import_prompts
from kanoclip.types import InputError

E, M, D = 12, 4, 128


def published(backbone: Backbone, deep: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """What AnomalyCLIP's code saves for a text tower of our width; Crane's has the same, less the projections."""
    g = torch.Generator().manual_seed(0)
    state = {name: torch.randn(1, 1, E, D, generator=g).to(dtype) for name in ("ctx_pos", "ctx_neg")}
    for number in range(deep):
        state[f"compound_prompts_text.{number}"] = torch.randn(M, D, generator=g).to(dtype)
        state[f"compound_prompt_projections.{number}.weight"] = torch.zeros(896, D)
        state[f"compound_prompt_projections.{number}.bias"] = torch.zeros(896)
    for polarity, text in (("pos", "object."), ("neg", "damaged object.")):
        tokens = backbone.tokenize([" ".join(["X"] * E + [text])])
        embeddings = backbone.text.token_embedding(tokens)[None].detach()
        state[f"token_prefix_{polarity}"] = embeddings[:, :, :1]
        state[f"token_suffix_{polarity}"] = embeddings[:, :, 1 + E :]
        state[f"tokenized_prompts_{polarity}"] = tokens[None].int()
    return {"prompt_learner": state}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path, backbone: Backbone) -> str:
    with pytest.raises(InputError) as caught:
        import_prompts(path, backbone, 111)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_text_vectors_are_those_of_the_published_forward(
    tmp_path: Path, backbone: Backbone, dtype: torch.dtype
) -> None:
    """Prefix, context, suffix; then learned tokens at the inputs of blocks 2 and 3, as in the authors' text encoder."""
    content = published(backbone, dtype=dtype)
    method = import_prompts(save(content, tmp_path / "epoch_15.pth"), backbone, 111)
    state, text = {name: t.float() for name, t in content["prompt_learner"].items()}, backbone.text
    for column, polarity in enumerate(("pos", "neg")):
        parts = (state[f"{part}_{polarity}"] for part in ("token_prefix", "ctx", "token_suffix"))
        with torch.no_grad():
            x = torch.cat(list(parts), dim=2)[0] + text.positional_embedding
            for number, block in enumerate(text.transformer.resblocks):
                if number > 0:
                    x = torch.cat([x[:, :1], state[f"compound_prompts_text.{number - 1}"][None], x[:, 1 + M :]], dim=1)
                x = block(x, attn_mask=text.attn_mask)
            end = state[f"tokenized_prompts_{polarity}"][0, 0].argmax()
            expected = text.ln_final(x)[0, end] @ text.text_projection
            found = method.prompts(backbone, ["whatever"])[0, column]
        torch.testing.assert_close(found, expected / expected.norm(), atol=1e-5, rtol=1e-5)


def test_the_command_writes_a_checkpoint_that_scores(tmp_path: Path, backbone: Backbone) -> None:
    content = published(backbone)
    source, out = save(content, tmp_path / "epoch_15.pth"), tmp_path / "checkpoint.safetensors"
    towers = json.dumps({name: tower.model_dump() for name, tower in backbone.config.towers.items()})
    settings = ["model=kanoclip-tiny", "weights=random:0", f"image_size={backbone.config.image_size}"]
    settings.append(f"towers={towers}")
    options = [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(
        app, ["import-prompts", str(source), "--out", str(out), "--auxiliary", "visa", "--device", "cpu", *options]
    )
    assert result.exit_code == 0, result.output
    method = load_method(out, backbone, "anomalyclip")
    assert torch.equal(method.learned()["prompts.context"][1], content["prompt_learner"]["ctx_neg"][0, 0])
    record = read_record(out)
    assert (record["auxiliary"], record["seed"]) == ("visa", 111)
    assert record["options"]["deep_depth"] == 3
    assert list(record["imported"]) == ["epoch_15.pth"]


def test_without_deep_prompts_only_the_context_is_learned(tmp_path: Path, backbone: Backbone) -> None:
    method = import_prompts(save(published(backbone, deep=0), tmp_path / "a.pth"), backbone, 111)
    assert sum(parameter.numel() for parameter in method.learned().values()) == 2 * E * D


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("ctx_pos", torch.zeros(1, 1, E, 768), "ctx_pos: expected shape (1, 1, any, 128)"),
        ("ctx_pos", torch.zeros(E, D), "ctx_pos: expected shape (1, 1, any, 128)"),
        ("ctx_neg", torch.zeros(1, 1, E - 1, D), "ctx_neg: expected shape (1, 1, 12, 128)"),
        ("ctx_neg", torch.zeros(1, 2, E, D), "ctx_neg: expected shape (1, 1, 12, 128)"),
        ("compound_prompts_text.1", torch.zeros(M + 1, D), "compound_prompts_text.1: expected shape (4, 128)"),
        ("compound_prompts_text.0", torch.zeros(E + 1, D), "'deep_length': must be at most prompt_length 12"),
        ("ctx_neg", torch.full((1, 1, E, D), torch.nan), "ctx_neg: expected finite"),
        ("ctx_neg", torch.zeros(1, 1, E, D, dtype=torch.int), "ctx_neg: expected finite floating-point"),
        ("tokenized_prompts_neg", torch.zeros(1, 1, 77), "expected prompts of the form 'x x x"),
    ],
)
def test_wrong_tensors(tmp_path: Path, backbone: Backbone, name: str, tensor: torch.Tensor, expected: str) -> None:
    content = published(backbone, deep=1 if name == "compound_prompts_text.0" else 2)
    content["prompt_learner"][name] = tensor
    assert expected in refusal(save(content, tmp_path / "a.pth"), backbone)


@pytest.mark.parametrize("name", ["ctx_pos", "ctx_neg", "compound_prompts_text.0"])
def test_missing_entries(tmp_path: Path, backbone: Backbone, name: str) -> None:
    content = published(backbone)
    del content["prompt_learner"][name]
    message = refusal(save(content, tmp_path / "a.pth"), backbone)
    assert f"{name}: expected shape" in message and "found none" in message


def test_deeper_than_the_tower(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(InputError, match="deep_depth must be at most 3, the text tower's blocks, found 9"):
        import_prompts(save(published(backbone, deep=8), tmp_path / "a.pth"), backbone, 111)


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"prompt_learner": torch.zeros(2)}, [1, 2], None])
def test_other_contents(tmp_path: Path, backbone: Backbone, content: Any) -> None:
    assert "expected an entry prompt_learner" in refusal(save(content, tmp_path / "a.pth"), backbone)


class Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_is_not_run(tmp_path: Path, backbone: Backbone) -> None:
    content = published(backbone)
    content["prompt_learner"]["surprise"] = Touch(tmp_path / "ran")
    assert "found code" in refusal(save(content, tmp_path / "a.pth"), backbone)
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol=2))
    assert "found code" in refusal(tmp_path / "b.pth", backbone)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: b"GIF89a", lambda content: content[:-4000]])
def test_damaged_files(tmp_path: Path, backbone: Backbone, damage: Any) -> None:
    path = save(published(backbone), tmp_path / "a.pth")
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in refusal(path, backbone)
