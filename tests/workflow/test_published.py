"""In the workflow, a row with published weights is downloaded and imported in place of being trained."""

import hashlib
import http.server
import shutil
import threading
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from test_workflow import CONFIG, NEEDED, ROOT, planned, snakemake

ROW = {"method": "april_gan", "recipe": "published", "weights": "published", "backbone": CONFIG["backbone"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory, write_folder) -> Path:
    """Return a copy of the repository whose APRIL-GAN has weights for the tiny tower, served on this machine."""
    folder = tmp_path_factory.mktemp("published")
    for name in NEEDED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    write_folder(folder / "others", ("gear",))
    write_folder(folder / "parts", ("nut",))
    served = folder / "served"
    served.mkdir()
    g = torch.Generator().manual_seed(0)
    shapes = {"weight": (128, 128), "bias": (128,)}
    state = {f"fc.{k}.{part}": torch.randn(*shape, generator=g) for k in range(4) for part, shape in shapes.items()}
    torch.save({"trainable_linearlayer": state}, served / "w.pth")
    return folder


def test_published_weights_are_downloaded_imported_and_scored(project: Path) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(project / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    file = {
        "name": "w.pth",
        "auxiliary": "parts",
        "urls": [f"http://127.0.0.1:{server.server_address[1]}/w.pth"],
        "sha256": hashlib.sha256((project / "served/w.pth").read_bytes()).hexdigest(),
    }
    about = {"homepage": "https://example.org", "licence": "MIT", "layout": "a state", "files": [file]}
    (project / "kanoclip/methods/published/april_gan.yaml").write_text(yaml.safe_dump(about))
    methods = {"clip": None, "april_gan": ROW}
    config = CONFIG | {"targets": ["others"], "methods": methods, "seeds": [1, 2], "run": "imported"}
    (project / "imported.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    jobs = planned(project, "--configfile", "imported.yaml")
    assert (jobs["fetch_weights"], jobs["import_weights"]) == (1, 1)
    assert not {"train", "encode", "knowledge"} & set(jobs)
    result = snakemake(project, "--configfile", "imported.yaml")
    server.shutdown()
    thread.join()
    server.server_close()
    assert result.returncode == 0, result.stderr[-3000:]
    frame = pd.read_csv(project / "results/imported/tables/metrics.csv")
    row = frame[frame["method"] == "april_gan"]
    assert set(row["auxiliary"]) == {"parts"} and set(row["seed"]) == {1}
    assert (
        "with published weights, trained by their authors: april_gan"
        in (project / "results/imported/tables/main.md").read_text()
    )
    assert "Nothing to be done" in snakemake(project, "--configfile", "imported.yaml").stderr
