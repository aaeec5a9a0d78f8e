# Names, paths and targets, derived from the configuration and the registries. This file has no rules.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.current_basedir).parent.parent
sys.path.insert(0, str(ROOT))
# so that rules find the package in an environment that contains only its dependencies
# (Snakemake formats the prefix, so braces in a path are doubled)
SHELL_ROOT = shlex.quote(str(ROOT)).replace("{", "{{").replace("}", "}}")
shell.prefix(f"export PYTHONPATH={SHELL_ROOT}:${{{{PYTHONPATH:-}}}}; ")

from kanoclip.code_digest import command_digest, method_module
from kanoclip.config import Configuration, parse as parse_configuration, with_nulls
from kanoclip.datasets.public_photographs import photograph_names
from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.downloads import fetched_weights
from kanoclip.expansion import expand as expand_configuration
from kanoclip.files import listing_digest, remembered_sha256, text_digest
from kanoclip.layout import Layout
from kanoclip.plan import summary_line
from kanoclip.published_weights import files_trained_on
from kanoclip.rows import NO_AUXILIARY, checkpoint_file
from kanoclip.types import InputError

try:
    CONFIG = parse_configuration(Configuration, with_nulls(config), "configuration")
    RUN = expand_configuration(CONFIG)
except InputError as error:
    raise WorkflowError(str(error)) from None

# If the profile gives a number of GPUs, jobs that load images share the cores equally, because threads load images while
# the GPU computes. Without a GPU, one thread per job is the fastest use of the cores.
LIMITS = workflow.global_resources
GPUS = int(LIMITS["gpu"].value) if "gpu" in LIMITS else 0
LOADING_THREADS = max(1, (workflow.cores or 1) // GPUS) if GPUS else 1
RESULTS = f"results/{CONFIG.run}"
LAYOUT = Layout(Path(RESULTS))
RESOURCES = CONFIG.resources
MAIN_JOBS = RUN.jobs_of(RUN.main)


def any_of(names):
    return "|".join(map(re.escape, sorted(names))) or "none"


def with_attempts(amount):
    """Return memory or time that grows with each attempt of a job that failed on a cluster."""
    return lambda wildcards, attempt: amount * attempt


wildcard_constraints:
    row=any_of(row.name for row in RUN.rows),
    method=any_of(row.method for row in RUN.rows),
    backbone=any_of(RUN.backbones),
    dataset=any_of(set(dataset_names()) | set(CONFIG.datasets)),
    target=any_of(CONFIG.targets),
    auxiliary=any_of({job.auxiliary for job in RUN.jobs}),
    ablation=any_of(CONFIG.ablations),
    seed=r"\d+",


def settings(values):
    """Return --set options for the command line, with each value as JSON, which YAML reads; `:q` quotes them."""
    return set_options("--set", values)


def set_options(option, values):
    """Return KEY=VALUE options for the command line, with each value as JSON, which YAML reads; `:q` quotes them."""
    return [f"{option}={key}={json.dumps(value)}" for key, value in values.items()]


def local_folder(name):
    """Return the local folder of a dataset in the configuration, or None."""
    entry = CONFIG.datasets.get(name)
    return None if entry is None else entry.path


def dataset_options(name):
    """Return the options of `kanoclip prepare` for a dataset."""
    entry = CONFIG.datasets.get(name)
    if entry is None:
        return []
    options = [] if entry.path is None else [f"--path={entry.path}"]
    options += [] if entry.limit is None else [f"--limit={entry.limit}"]
    for folder, class_name in entry.class_names.items():
        options.append(f"--class-name={folder}={class_name}")
    return options


def dataset_listing(name):
    """Return a digest of the files of a local folder, so that adding, replacing or removing one reruns rules."""
    folder = local_folder(name)
    return "" if folder is None else listing_digest(Path(folder))


def dataset_code(name):
    """Return the digest of the code for a dataset's index: the command, its spec, and the generator of drawn images."""
    shipped = name in dataset_names()
    drawn = shipped and load_spec(name).source.kind == "synthetic"
    own = [f"datasets/specs/{name}.yaml"] * shipped
    return command_digest(
        "prepare", *own, without=() if drawn else ("kanoclip.datasets.synthetic",)
    )


def knowledge_code(name):
    """Return the digest of the code for a dataset's knowledge: the command and the sentences in the package."""
    curated = [f"knowledge/curated/{file}.yaml" for file in (name, "generic")]
    shipped = [file for file in curated if (ROOT / "kanoclip" / file).is_file()]
    return command_digest("knowledge", *shipped)


def methods_code(command, rows):
    """Return the digest of the code of a command and of the methods of some rows."""
    methods = sorted({RUN.row(name).method for name in rows})
    return command_digest(command, *map(method_module, methods))


def knowledge_options():
    """Return the options of `kanoclip knowledge`, without the settings of models that are not used, so that these
    rerun nothing."""
    values = CONFIG.knowledge.model_dump(mode="json")
    unasked = {"llm", "vqa"} - set(CONFIG.knowledge.sources)
    return settings({key: values[key] for key in values if key not in unasked})


def downloaded(wildcards):
    """Return the record of a dataset's download, if it has one."""
    if local_folder(wildcards.dataset) is not None:
        return []
    if load_spec(wildcards.dataset).source.kind not in ("archive", "manual"):
        return []
    return f"{RESOURCES}/{wildcards.dataset}/source.json"


def released_files(method, auxiliary):
    """Return the record of published weights, so that another address or checksum reruns rules."""
    return json.dumps(
        [file.model_dump() for file in files_trained_on(method, auxiliary)]
    )


def backbone_values(name):
    """Return the configuration of a backbone with its defaults, so that a changed default reruns rules."""
    return RUN.backbones[name].model_dump(mode="json")


def weights_digest(name):
    """Return the checksums of the local weight files of a backbone's towers."""
    backbone = RUN.backbones[name]
    return digests_of(
        [backbone.weights, *(tower.weights for tower in backbone.towers.values())]
    )


def published_paths(wildcards):
    """Return the paths of the published weights of a row."""
    method = RUN.row(wildcards.row).method
    folder = f"{RESOURCES}/weights/{method}/{wildcards.auxiliary}"
    return [
        f"{folder}/{file.name}"
        for file in files_trained_on(method, wildcards.auxiliary)
    ]


def digests_of(paths):
    """Return the checksums of the files that exist, so that another file of the same name reruns rules."""
    return " ".join(
        remembered_sha256(Path(path)) for path in paths if Path(path).is_file()
    )


def fetched(name):
    """Return the record of downloaded weights of a backbone, if they come from a model hub."""
    needed = fetched_weights(RUN.backbones[name])
    return f"{RESOURCES}/backbones/{name}.json" if needed else []


def tap_options(backbone, dataset):
    """Return the options with the taps to cache of a dataset with a backbone."""
    return [f"--tap={tap}" for tap in RUN.taps[backbone][dataset]]


def is_cached(backbone, dataset):
    return dataset in RUN.taps.get(backbone, {})


def cached_features(wildcards):
    """Return the cached features of a training, if there are any."""
    if not is_cached(wildcards.backbone, wildcards.auxiliary):
        return []
    return LAYOUT.features(wildcards.backbone, wildcards.auxiliary)


def source_options(backbone, dataset):
    """Return the option with the source of a training's features: the cache, or a backbone that computes them."""
    if is_cached(backbone, dataset):
        return [f"--features={LAYOUT.features(backbone, dataset)}"]
    return set_options("--backbone-set", backbone_values(backbone))


def pass_name(one):
    """Return the name of a pass in names of rules, with a checksum if another pass differs in punctuation only."""

    def plain(each):
        return re.sub(r"\W", "_", pass_path(each))

    alone = [plain(each) for each in RUN.passes].count(plain(one)) == 1
    return plain(one) if alone else f"{plain(one)}_{text_digest(pass_path(one))[:6]}"


def pass_path(one):
    """Return the name of a pass in paths."""
    return f"{one.backbone}/{one.target}" + ("_ablations" if one.ablations else "")


def of_jobs(jobs, *files):
    """Return files of some scoring jobs, in the order of the jobs."""
    return [
        str(
            LAYOUT.scores(job.row, job.backbone, job.auxiliary, job.target, job.seed)
            / file
        )
        for job in jobs
        for file in files
    ]


def training_logs(one):
    """Return the train.csv of every seed of a training."""
    folder = LAYOUT.models(one.row, one.backbone, one.auxiliary)
    return [f"{folder}/seed{seed}/train.csv" for seed in one.seeds]


def metrics_of(names):
    """Return the metrics.csv of every scoring job of some rows."""
    return of_jobs(RUN.jobs_of(names), "metrics.csv")


def checkpoints_of(one):
    """Return the checkpoints that the run trains for a pass."""
    return [
        str(LAYOUT.checkpoint(job.row, job.backbone, job.auxiliary, job.seed))
        for job in one.jobs
        if job.auxiliary != NO_AUXILIARY and RUN.row(job.row).checkpoint is None
    ]


def given_checkpoints(one):
    """Return the checksums of checkpoints named in the configuration, so that another file reruns rules."""
    files = [
        checkpoint_file(row.checkpoint) for row in RUN.rows_of(one) if row.checkpoint
    ]
    return [remembered_sha256(path) for path in files if path.is_file()]


def pass_rows(one):
    """Return the rows of a pass with their seeds, for standard input, because a command line cannot hold thousands."""
    return [f"--row={row.model_dump_json()}" for row in RUN.rows_of(one)]
