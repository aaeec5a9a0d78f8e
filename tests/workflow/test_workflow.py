"""Run the workflow as a user does, in a copy of the repository, on two tiny folders of images."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
import yaml
from knowledge_server import ChatServer, fails, says

ROOT = Path(__file__).parents[2]
NEEDED = ("Snakefile", "environment.yml", "workflow", "profiles", "kanoclip", "config")
CONFIG = {
    "run": "tiny",
    "backbones": {"kanoclip-tiny-32": {"model": "kanoclip-tiny", "weights": "random:0", "image_size": 32}},
    "backbone": "kanoclip-tiny-32",
    "auxiliary": "parts",
    "auxiliary_for": {},
    "targets": ["others", "bare"],
    "seeds": [1],
    "methods": {
        "clip": None,
        "kanoclip": {"epochs": 1, "width": 16, "heads": 2, "deform_groups": 2, "bottleneck": 8, "prompt_length": 2},
        "oracle": None,
    },
    "datasets": {name: {"path": name} for name in ("parts", "others", "bare")},
}


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=path)


def planned(folder: Path, *options: str) -> dict[str, int]:
    """Return the number of jobs of each rule that a run would start."""
    output = snakemake(folder, "-n", *options).stdout
    table = output.split("Job stats:")[-1]
    return {match[1]: int(match[2]) for match in re.finditer(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    """Return a copy of the repository in which the tiny run has finished."""
    folder = tmp_path_factory.mktemp("project")
    for name in NEEDED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    write_folder(folder / "parts", ("nut", "bolt"))
    write_folder(folder / "others", ("gear",))
    write_folder(folder / "bare", ("pipe",), masks=False)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    result = snakemake(folder, "--configfile", "tiny.yaml")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_the_run_writes_every_output(project: Path) -> None:
    results = project / "results/tiny"
    for table in ("main", "full", "runtime"):  # local folders belong to no domain, so there is no table per domain
        for ending in ("csv", "md", "tex", "html"):
            text = (results / "tables" / f"{table}.{ending}").read_text()
            assert "Embedded tiny backbone: not results of the paper" in text
            assert "weights random:0, image size 32 x 32" in text
    assert "data:image/webp;base64" in (results / "index.html").read_text()
    of_targets = [
        f"{kind}_{target}"
        for kind in ("qualitative", "histograms", "detection_curves")
        for target in ("others", "bare")
    ]
    for name in ("teaser", "bars", "ranks", "training_curves", *of_targets):
        for suffix in (".png", ".pdf", ".svg"):
            assert (results / "figures" / f"{name}{suffix}").stat().st_size > 1000


def test_the_long_format_table_is_complete(project: Path) -> None:
    frame = pd.read_csv(project / "results/tiny/tables/metrics.csv", keep_default_na=False, na_values={"value": [""]})
    assert set(frame["method"]) == {"clip", "kanoclip", "oracle"}
    trained = frame["method"] == "kanoclip"
    assert (frame["auxiliary"] == "parts").tolist() == trained.tolist()
    oracle = frame[frame["method"] == "oracle"]
    assert (oracle["value"].dropna() == 1).all()
    bare_pixels = (frame["dataset"] == "bare") & (frame["level"] == "pixel")
    # the protocol with 200 thresholds is undefined for maps that are masks
    undefined = (frame["method"] == "oracle") & (frame["metric"] == "aupro_200")
    # training-free rows have no threshold from the auxiliary dataset
    unthresholded = ~trained & frame["metric"].str.endswith("_auxiliary")
    assert frame["value"].isna().tolist() == (bare_pixels | undefined | unthresholded).tolist()
    assert set(frame.loc[bare_pixels & ~unthresholded, "reason"]) == {"no masks"}


def test_every_job_leaves_a_log_and_a_benchmark(project: Path) -> None:
    results = project / "results/tiny"
    for stage, count in {"prepare": 3, "knowledge": 1, "encode": 1, "train": 1, "score": 2, "evaluate": 2}.items():
        assert len(list((results / "logs" / stage).rglob("*.log"))) == count
        assert len(list((results / "benchmarks" / stage).rglob("*.tsv"))) == count


def test_a_second_run_has_nothing_to_do(project: Path) -> None:
    assert "Nothing to be done" in snakemake(project, "--configfile", "tiny.yaml").stderr


def test_a_copy_has_nothing_to_do(project: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(project, tmp_path / "elsewhere/project", symlinks=True)
    assert "Nothing to be done" in snakemake(copy, "-n", "--configfile", "tiny.yaml").stdout


def test_a_workflow_with_nothing_to_do_loads_no_torch(project: Path) -> None:
    """Python lists every module that it loads on standard error."""
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(project)}
    command = [sys.executable, "-X", "importtime", "-m", "snakemake", "-n", "--configfile", "tiny.yaml"]
    lines = subprocess.run(command, cwd=project, capture_output=True, text=True, env=path).stderr.splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "kanoclip.expansion" in loaded
    assert not {"torch", "open_clip", "kanoclip.protocol"} & loaded


def edited(path: Path, planned_after: Callable[[], dict[str, int]], text: str = "EDITED = 1") -> dict[str, int]:
    before = path.read_text()
    path.write_text(f"{before}\n{text}\n")
    try:
        return planned_after()
    finally:
        path.write_text(before)


DRAWING = {"figures_of_target": 2, "figures_of_run": 1, "tables": 1, "runtime": 1, "page": 1, "all": 1}
PASSES = {f"{stage}_kanoclip_tiny_32_{target}": 1 for stage in ("score", "evaluate") for target in ("others", "bare")}


def plan_of(project: Path) -> dict[str, int]:
    return planned(project, "--configfile", "tiny.yaml")


def test_editing_a_method_reruns_its_training_and_the_passes(project: Path) -> None:
    methods = project / "kanoclip/methods"
    trained = {"train": 1, **PASSES, **DRAWING}
    assert edited(methods / "kanoclip_paper/adapter.py", lambda: plan_of(project)) == trained | {
        "total": sum(trained.values())
    }
    scored = PASSES | DRAWING
    assert edited(methods / "clip.py", lambda: plan_of(project)) == scored | {"total": sum(scored.values())}
    encoding = edited(project / "kanoclip/backbones/clip.py", lambda: plan_of(project))
    assert encoding["encode"] == 1 and "prepare" not in encoding
    assert edited(project / "kanoclip/types.py", lambda: plan_of(project), "# edited") == {}
    assert plan_of(project) == {}


def counts_from_the_logs(project: Path) -> list[str]:
    """Return from the logs how much each pass and training computed, of how much."""
    texts = [path.read_text() for path in sorted((project / "results/tiny/logs").rglob("*.log"))]
    return re.findall(r"(\d+ of \d+) (?:rows and seeds|seeds|scores files)", "\n".join(texts))


def clear_logs(project: Path) -> None:
    for path in (project / "results/tiny/logs").rglob("*.log"):
        path.unlink()


def test_an_edited_method_recomputes_only_its_rows(project: Path) -> None:
    """The logs show that each pass scores one row of three and reuses two evaluations of three."""
    clear_logs(project)

    def run() -> dict[str, int]:
        assert snakemake(project, "--configfile", "tiny.yaml").returncode == 0
        return {}

    edited(project / "kanoclip/methods/clip.py", run)
    assert sorted(counts_from_the_logs(project)) == [
        "1 of 3",
        "1 of 3",
        "3 of 3",
        "3 of 3",
    ]  # the scores did not change
    clear_logs(project)
    run()  # the results of the original code are reused
    assert sorted(counts_from_the_logs(project)) == ["0 of 3", "0 of 3", "3 of 3", "3 of 3"]
    assert plan_of(project) == {}


def test_a_new_seed_trains_only_that_seed(project: Path) -> None:
    (project / "seeds.yaml").write_text(yaml.safe_dump(CONFIG | {"seeds": [1, 2]}, sort_keys=False))
    clear_logs(project)
    checkpoint = project / "results/tiny/models/kanoclip/kanoclip-tiny-32/parts/seed1/checkpoint.safetensors"
    before = checkpoint.read_bytes()
    result = snakemake(project, "results/tiny/tables/main.md", "--configfile", "seeds.yaml")
    assert result.returncode == 0, result.stderr[-2000:]
    # training: one of two seeds; each pass: the new seed of kanoclip, one of four (row, seed)
    assert sorted(counts_from_the_logs(project)) == ["1 of 2", "1 of 4", "1 of 4", "3 of 4", "3 of 4"]
    assert checkpoint.read_bytes() == before
    assert snakemake(project, "--configfile", "tiny.yaml").returncode == 0
    assert plan_of(project) == {}


def test_a_failed_pass_is_repeated_after_its_input_changed(project: Path) -> None:
    """Snakemake's update() gets this wrong: the next run must not report that there is nothing to do."""
    scores = next((project / "results/tiny/scores/clip").rglob("others/seed1/scores.h5"))
    before = scores.read_bytes()
    method = project / "kanoclip/methods/clip.py"
    text = method.read_text()
    method.write_text(text.replace("abnormal = two_way(", "abnormal = float('nan') * two_way("))
    failed = snakemake(project, "--configfile", "tiny.yaml")
    assert failed.returncode != 0 and "is not finite" in failed.stderr
    method.write_text(text.replace('"""CLIP zero-shot', 'CHANGED = 1\n"""CLIP zero-shot'))
    assert plan_of(project)["score_kanoclip_tiny_32_others"] == 1
    method.write_text(text)
    assert plan_of(project)["score_kanoclip_tiny_32_others"] == 1
    assert snakemake(project, "--configfile", "tiny.yaml").returncode == 0
    assert scores.read_bytes() == before
    assert plan_of(project) == {}


def test_only_limits_the_run_to_some_rows(project: Path) -> None:
    options = ("--configfile", "tiny.yaml", "--config", "only=[clip]")
    plan = planned(project, *options)
    assert "train" not in plan
    result = snakemake(project, "-n", "--configfile", "tiny.yaml", "--config", "only=[klip]")
    assert "unknown row in only 'klip'; did you mean 'clip'?" in result.stdout + result.stderr


def test_images_added_replaced_or_removed_in_a_local_folder_rerun_prepare(project: Path, tmp_path: Path) -> None:
    def prepared() -> int:
        return planned(project, "--configfile", "tiny.yaml").get("prepare", 0)

    image = project / "others/gear/test/good/000.png"
    added = image.with_name("999.png")
    original = shutil.copy2(image, tmp_path)
    assert prepared() == 0
    shutil.copy2(image, added)
    assert prepared() == 1
    added.unlink()
    image.write_bytes(image.with_name("001.png").read_bytes())
    assert prepared() == 1
    image.unlink()
    assert prepared() == 1
    shutil.copy2(original, image)
    assert planned(project, "--configfile", "tiny.yaml") == {}


def test_editing_a_caption_reruns_nothing(project: Path) -> None:
    caption = project / "workflow/report/table.rst"
    assert edited(caption, lambda: planned(project, "--configfile", "tiny.yaml"), ".. edited") == {}


def test_changing_an_option_reruns_the_jobs_that_depend_on_it(project: Path) -> None:
    changed = CONFIG | {"methods": CONFIG["methods"] | {"clip": {"temperature": 0.01}}}
    (project / "changed.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    plan = planned(project, "--configfile", "changed.yaml")
    assert PASSES.items() <= plan.items()
    assert not {"train", "encode", "prepare"} & set(plan)


def test_the_report_has_the_figures_and_tables(project: Path) -> None:
    result = snakemake(project, "--configfile", "tiny.yaml", "--report", "report.zip")
    assert result.returncode == 0, result.stderr[-2000:]
    names = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", "report.zip"], cwd=project, capture_output=True, text=True
    ).stdout
    for name in ("main.html", "metrics.csv", "index.html", "teaser.png", "qualitative_bare.png"):
        assert name in names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metods": {}}, "unknown key 'metods'; did you mean 'methods'?"),
        ({"methods": {"kanoklip": None}}, "unknown method 'kanoklip'; did you mean 'kanoclip'?"),
        ({"targets": ["parts"]}, "target 'parts' is also the auxiliary dataset of 'kanoclip'"),
        ({"backbone": "none"}, "unknown backbone 'none'"),
    ],
)
def test_mistakes_stop_the_workflow_with_one_line(project: Path, changes: dict[str, object], message: str) -> None:
    (project / "wrong.yaml").write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))
    result = snakemake(project, "-n", "--configfile", "wrong.yaml")
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_seen_target_is_allowed_and_marked(project: Path) -> None:
    seen = CONFIG | {"run": "seen", "targets": ["parts"], "allow_seen": True}
    (project / "seen.yaml").write_text(yaml.safe_dump(seen, sort_keys=False))
    result = snakemake(project, "results/seen/tables/main.md", "--configfile", "seen.yaml")
    assert result.returncode == 0, result.stderr[-2000:]
    table = (project / "results/seen/tables/main.md").read_text()
    assert "not zero-shot" in table
    assert [("†" in line) for line in table.splitlines() if line.startswith("| kanoclip")] == [True]
    assert [("†" in line) for line in table.splitlines() if line.startswith("| clip")] == [False]


def test_the_error_line_of_a_failed_job_is_shown(project: Path) -> None:
    broken = project / "broken"
    shutil.copytree(project / "others", broken)
    image = next((broken / "gear/test/spot").glob("*.png"))
    image.write_bytes(image.read_bytes()[:300])
    wrong = CONFIG | {
        "run": "broken",
        "targets": ["broken"],
        "datasets": {**CONFIG["datasets"], "broken": {"path": "broken"}},
    }
    (project / "broken.yaml").write_text(yaml.safe_dump(wrong, sort_keys=False))
    result = snakemake(project, "results/broken/data/broken/index.csv", "--configfile", "broken.yaml")
    assert result.returncode != 0
    assert "error: " in result.stderr and image.name in result.stderr
    assert not (project / "results/broken/data/broken/index.csv").exists()


def test_paid_answers_survive_a_failed_job(project: Path) -> None:
    """Snakemake deletes the output of a failed job, but not the answers of models."""
    output, answers = project / "results/asked/knowledge/parts.jsonl", project / "resources/knowledge/parts.jsonl"
    with ChatServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        server.script = [says("A broken nut."), says("A bent bolt."), fails(403, "quota")]
        llm = {"base_url": server.url, "model": "m", "key_variable": None, "descriptions": 2, "concurrency": 1}
        asked = CONFIG | {"run": "asked", "knowledge": {"sources": ["curated", "llm"], "llm": llm}}
        (project / "asked.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
        target = [str(output.relative_to(project)), "--configfile", "asked.yaml"]
        result = snakemake(project, *target)
        assert result.returncode != 0 and "403" in result.stderr
        assert not output.exists()
        assert len(answers.read_text().splitlines()) == 2
        assert snakemake(project, *target).returncode == 0
        assert len(server.requests) == 3 + 2
        server.shutdown()
    sources = [json.loads(line)["source"] for line in output.read_text().splitlines()]
    assert sources.count("llm") == 4
    # keys that do not affect the questions can change freely
    asked["knowledge"]["vqa"] = {"model": "another"}
    (project / "asked.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    assert planned(project, *target) == {}


def test_your_own_folder_runs_with_the_command_of_the_readme(project: Path) -> None:
    """Folders with labels, with normal images only and without labels each get a page; nothing is trained."""
    shutil.copytree(project / "others/gear/test/good", project / "only/good")
    shutil.copytree(project / "others/gear/test", project / "photos/nested")
    (project / "photos/nested/good").rename(project / "photos/nested/monday")
    for name, labels in {"others": {True, False}, "only": {False}, "photos": {None}}.items():
        options = ["--configfile", "config/folder.yaml", "--config", f"folder={name}", "class_name=gear"]
        if name == "others":
            options.pop()  # its class is named after its folder
        plan = planned(project, *options)
        assert plan["prepare"] == 1 and not {"train", "encode", "knowledge"} & set(plan)
        result = snakemake(project, *options)
        assert result.returncode == 0, result.stderr[-3000:]
        (results,) = (project / "results").glob(f"{name}-*")
        data = (results / "index.html").read_text().split('id="gallery-data">')[1].split("</script>")[0]
        gallery = json.loads(data)["datasets"][name]
        assert {picture["anomalous"] for picture in gallery["pictures"].values()} == labels
        verdicts = {tile["verdict"] for tile in gallery["methods"]["kanoclip"]["classes"]["gear"]["tiles"]}
        assert (verdicts == {""}) == (name != "others")
        assert f"{name}/" in (results / f"data/{name}/index.csv").read_text()
        frame = pd.read_csv(results / "tables/metrics.csv")
        assert frame["value"].isna().all() == (name != "others")
    assert set(frame["reason"]) == {"unlabelled images"}
    assert set(pd.read_csv(results / "data/photos/index.csv")["defect"]) == {"unlabelled"}
    assert "Nothing to be done" in snakemake(project, *options).stderr


def test_the_paper_dry_runs_completely(project: Path) -> None:
    plan = planned(project)
    assert plan["download"] == plan["prepare"] == 12
    assert plan["encode"] == 2  # the two auxiliary datasets; targets are scored without a cache
    assert plan["train"] == 4 * 2  # four trainable methods on two auxiliary datasets, each job with all seeds
    assert sum(name.startswith("score_") for name in plan) == sum(name.startswith("evaluate_") for name in plan) == 12
    assert plan["total"] <= 110
    assert {"knowledge", "tables", "figures_of_target", "figures_of_run", "page"} <= set(plan)


def test_the_workflow_passes_lint_and_format(project: Path) -> None:
    result = snakemake(project, "--lint")
    assert result.returncode == 0, result.stderr
    files = ["Snakefile", "workflow"]
    result = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", *files], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_every_rule_is_one_command_with_a_log() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = re.split(r"^ *rule ?", text, flags=re.MULTILINE)[1:]
    assert len(rules) >= 12
    targets = {"ablation", "pretrain"}  # rules that only name the outputs of others
    for rule in rules:
        name = rule.split(":")[0]
        if name in targets:
            assert "shell:" not in rule and "output:" not in rule, name
            continue
        assert rule.count("python -m kanoclip --log {log:q} ") == 1, name
        assert " log:" in rule and " message:" in rule, name
        fetches = name in ("download", "fetch_backbone", "fetch_weights")  # rules that compute nothing
        assert fetches or " benchmark:" in rule, name
        assert fetches or " code=" in rule, name  # the code that its command imports
