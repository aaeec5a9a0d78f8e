"""Download, import and score with the weights of a method's authors; every failure gives one line."""

import hashlib
import json
import subprocess
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from kanoclip import protocol, published_weights
from kanoclip.backbones.clip import Backbone
from kanoclip.cli import app
from kanoclip.config import Configuration, parse
from kanoclip.datasets import download
from kanoclip.datasets.index import read_index
from kanoclip.features import LiveFeatures
from kanoclip.methods import method_class, method_names
from kanoclip.published_weights import ReleasedFile, git_blob, load_release, release_names
from kanoclip.rows import NO_AUXILIARY
from kanoclip.scoring import score
from kanoclip.stages.importing import fetch_stage
from kanoclip.types import InputError

WIDTH = JOINT = 128


def weights() -> dict[str, Any]:
    """Return weights for the tiny tower in the layout of APRIL-GAN."""
    g = torch.Generator().manual_seed(0)
    shapes = {"weight": (JOINT, WIDTH), "bias": (JOINT,)}
    state = {
        f"fc.{level}.{part}": torch.randn(*shape, generator=g) / 10
        for level in range(4)
        for part, shape in shapes.items()
    }
    return {"trainable_linearlayer": state}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("release") / "weights.pth"
    torch.save(weights(), path)
    return path.read_bytes()


@pytest.fixture
def address(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the file at /good, interrupted once at /cut, only its first half at /half, and nothing elsewhere."""
    cuts = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            body = {"/good": data, "/cut": data, "/half": data[: len(data) // 2]}.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stops = self.path == "/cut" and not cuts
            cuts.append(start)
            self.wfile.write(body[start : len(body) // 3] if stops else body[start:])

        def log_message(self, *arguments: Any) -> None:
            pass

    monkeypatch.setattr(download, "WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the record of APRIL-GAN's published weights."""
    monkeypatch.setattr(published_weights, "RELEASES", tmp_path)

    def write(*urls: str, **facts: Any) -> None:
        file = {"name": "w.pth", "auxiliary": "visa", "urls": list(urls), **facts}
        about = {"homepage": "https://example.org", "licence": "MIT", "layout": "a state", "files": [file]}
        (tmp_path / "april_gan.yaml").write_text(yaml.safe_dump(about))

    return write


def refused(*arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        fetch_stage("april_gan", "visa", *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(*arguments: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, (result.output, result.exception)


def test_weights_are_downloaded_verified_imported_and_scored(
    tmp_path: Path, release: Any, address: str, data: bytes, index: Path, backbone: Backbone
) -> None:
    """Skip a dead address, resume an interrupted one, import; scores equal those of a method built by hand."""
    release(f"{address}/gone", f"{address}/cut", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    run("fetch-weights", "april_gan", "--auxiliary", "visa", "--resources", str(tmp_path))
    file = tmp_path / "weights/april_gan/visa/w.pth"
    assert file.read_bytes() == data
    source = json.loads(file.with_name("source.json").read_text())
    assert source["licence"] == "MIT" and source["files"]["w.pth"]["verified"]
    keys = {"model": "kanoclip-test", "weights": "random:0", "image_size": 32, "activation": "auto"}
    keys["towers"] = json.dumps(backbone.config.model_dump(mode="json")["towers"])
    tiny = [part for key, value in keys.items() for part in ("--backbone-set", f"{key}={value}")]
    checkpoint, out = tmp_path / "checkpoint.safetensors", tmp_path / "scores"
    run("import", "april_gan", str(file), "--out", str(checkpoint), "--auxiliary", "visa", *tiny)
    common = ["--index", str(index), "--device", "cpu", "--checkpoint", str(checkpoint)]
    run("score", "--method", "april_gan", "--out", str(out), *common, *tiny)
    kind = method_class("april_gan")
    method = kind(backbone, kind.Options(**kind.published), 0).eval()
    for level, layer in enumerate(method.projections):
        layer.load_state_dict(
            {part: weights()["trainable_linearlayer"][f"fc.{level}.{part}"] for part in ("weight", "bias")}
        )
    frame = read_index(index)
    maps, scores = score(method, LiveFeatures(frame, backbone), frame)
    with h5py.File(out / "scores.h5") as found:
        assert found.attrs["auxiliary"] == "visa"
        np.testing.assert_allclose(found["image_score"], scores, atol=1e-6)
        np.testing.assert_allclose(found["map"], maps, atol=1e-3)  # stored in fp16
    # the second time nothing is downloaded
    release(f"{address}/gone", sha256=hashlib.sha256(data).hexdigest())
    assert fetch_stage("april_gan", "visa", tmp_path) == [file]


def test_another_file_is_refused_and_deleted(tmp_path: Path, release: Any, address: str) -> None:
    for known in ({"sha256": "0" * 64}, {"git_blob": "0" * 40}, {"bytes": 7}):
        release(f"{address}/good", **known)
        message = refused(tmp_path)
        assert "expected" in message and "found" in message and "deleted" in message
        assert not (tmp_path / "weights/april_gan/visa/w.pth").exists()


def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path, release: Any, address: str, data: bytes) -> None:
    release(f"{address}/half", bytes=len(data))
    assert f"expected {len(data)} bytes, found {len(data) // 2}" in refused(tmp_path)
    release(f"{address}/half")  # its size is unknown, so the import refuses it
    (file,) = fetch_stage("april_gan", "visa", tmp_path)
    result = CliRunner().invoke(app, ["import", "april_gan", str(file), "--out", "x", "--auxiliary", "visa"])
    assert "damaged" in str(result.exception) and "\n" not in str(result.exception)


def test_a_file_placed_by_hand_is_verified_and_kept(tmp_path: Path, release: Any, data: bytes) -> None:
    release("http://127.0.0.1:1/never", sha256=hashlib.sha256(data).hexdigest())
    file = tmp_path / "weights/april_gan/visa/w.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"another")
    assert "expected SHA-256" in refused(tmp_path)
    assert file.read_bytes() == b"another"
    file.write_bytes(data)
    assert fetch_stage("april_gan", "visa", tmp_path) == [file]


def test_the_error_says_where_to_get_the_file_if_no_address_answers(tmp_path: Path, release: Any, address: str) -> None:
    release(f"{address}/gone")
    message = refused(tmp_path)
    assert "404" in message and "get it from https://example.org and put it there" in message


def test_the_id_equals_that_of_git(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 9000)
    known = subprocess.run(["git", "hash-object", "a"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert git_blob(tmp_path / "a") == known.stdout.strip()
    ReleasedFile(name="a", urls=["u"], git_blob=known.stdout.strip()).verify(tmp_path / "a")


@pytest.mark.parametrize("name", release_names())
def test_the_records_in_the_package_are_well_formed(name: str) -> None:
    release = load_release(name)
    assert release.homepage.startswith("https://") and release.licence and release.layout
    for file in release.files:
        assert all(url.startswith("https://") for url in file.urls)
        assert len({other.name for other in release.trained_on(file.auxiliary or "")}) == len(
            release.trained_on(file.auxiliary or "")
        )


def configuration(row: dict[str, Any], **changes: Any) -> Configuration:
    values = {"targets": ["btad"], "auxiliary": "visa", "auxiliary_for": {}, "methods": {"row": row}}
    return parse(Configuration, values | changes, "configuration")


ROW = {"method": "april_gan", "recipe": "published", "weights": "published"}


def test_a_published_row_runs_once_and_is_not_trained() -> None:
    found = protocol.describe(configuration(ROW, seeds=[1, 2, 3]))
    assert [job.seed for job in found.jobs] == [1] and found.trainings == [] and found.taps == {}
    assert [(one.row, one.auxiliary, one.seeds) for one in found.imports] == [("row", "visa", (1,))]
    assert found.row("row").options_on("visa")["mask_resize"] == "bilinear"
    assert any("published weights" in fact and "row" in fact for fact in found.facts(["row"], date(2026, 1, 1)))
    trained = protocol.describe(configuration(ROW | {"weights": "trained"}, seeds=[1, 2]))
    assert len(trained.trainings[0].seeds) == 2 and trained.imports == []


@pytest.mark.parametrize(
    ("row", "changes", "expected"),
    [
        (ROW | {"recipe": "protocol"}, {}, "weights: published needs recipe: published"),
        (ROW, {"auxiliary": "mpdd"}, "they were trained on mvtec_ad or visa, not on mpdd"),
        (ROW, {"targets": ["visa"]}, "it would not be zero-shot"),
        (ROW | {"method": "mvfa"}, {}, "its epoch chosen on the test images of the sixth"),
        (ROW | {"method": "clip"}, {}, "clip learns nothing"),
        (ROW | {"method": "kanoclip"}, {}, "no published weights are known"),
        (ROW | {"weights": "theirs"}, {}, "'trained' or 'published'"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_in_one_line(
    row: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        protocol.describe(configuration(row, **changes))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_targets_that_the_training_used_are_refused(release: Any) -> None:
    release("https://example.org/w", also_trained_on=["btad"])
    with pytest.raises(InputError, match="were trained on it as well as on visa"):
        protocol.describe(configuration(ROW, allow_seen=True))


@pytest.mark.parametrize("name", sorted(set(release_names()) & set(method_names())))
def test_every_offered_training_can_be_configured(name: str) -> None:
    for auxiliary in load_release(name).offered:
        config = configuration(ROW | {"method": name}, auxiliary=auxiliary)
        assert all(job.auxiliary == auxiliary != NO_AUXILIARY for job in protocol.describe(config).jobs)
