# Names, paths and targets, all derived from the configuration and the registries. No rules.
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.current_basedir).parent.parent
sys.path.insert(0, str(ROOT))
# so that the rules find the package in an environment that holds only its dependencies
shell.prefix(f"export PYTHONPATH={shlex.quote(str(ROOT))}:${{{{PYTHONPATH:-}}}}; ")

from kanoclip.code import command_digest, method_module
from kanoclip.config import Configuration, parse as parse_configuration
from kanoclip.datasets.specs import dataset_names, load_spec
from kanoclip.expansion import expand as expand_configuration
from kanoclip.types import NO_AUXILIARY, InputError

PACKAGE = ROOT / "kanoclip"
GENERATOR = ("kanoclip.datasets.synthetic",)
CODE = ".py .yaml .json .safetensors .j2 .css .js .mplstyle".split()

try:
    CONFIG = parse_configuration(Configuration, config, "configuration")
    PLAN = expand_configuration(CONFIG)
except InputError as error:
    raise WorkflowError(str(error)) from None

ROWS = PLAN.rows
MAIN_ROWS = PLAN.rows_of(CONFIG.methods)
TRAININGS = PLAN.trainings
RESULTS = f"results/{CONFIG.run}"
RESOURCES = CONFIG.resources
TRAINED = "{row}/{backbone}/{auxiliary}/seed{seed}"
SCORED = "{row}/{backbone}/{auxiliary}/{target}/seed{seed}"


def any_of(names):
    return "|".join(sorted(names))


wildcard_constraints:
    row=any_of(ROWS),
    backbone=any_of(PLAN.backbones),
    dataset=any_of(set(dataset_names()) | set(CONFIG.datasets)),
    target=any_of(CONFIG.targets),
    auxiliary=any_of({job.auxiliary for job in PLAN.all_jobs}),
    seed=r"\d+",


def beside(path):
    """A path as seen from the working folder, so that inputs are called the same in a copy of it."""
    return os.path.relpath(path)


def code(*places):
    """The package's files that a drawing depends on, so that editing them reruns it."""
    files = []
    for place in places:
        path = PACKAGE / place
        found = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}.*")
        files += [beside(file) for file in found if file.suffix in CODE]
    return sorted(files)


def dataset_code(name):
    """What decides a dataset's index: the command, its own spec, and the generator only if it is drawn."""
    shipped = name in dataset_names()
    drawn = shipped and load_spec(name).source.kind == "synthetic"
    own = [f"datasets/specs/{name}.yaml"] * shipped
    return command_digest("prepare", *own, without=() if drawn else GENERATOR)


def knowledge_code(name):
    """What decides what is known about a dataset: the command, and the shipped sentences about it."""
    curated = [f"knowledge/curated/{file}.yaml" for file in (name, "generic")]
    shipped = [file for file in curated if (PACKAGE / file).is_file()]
    return command_digest("knowledge", *shipped)


def method_code(command, row):
    """What decides what a command makes of a row: the command, and the module of the row's method."""
    return command_digest(command, method_module(ROWS[row].method))


def settings(values):
    """Options for the command line, each value as JSON, which YAML reads."""
    return " ".join(
        f"--set {shlex.quote(f'{key}={json.dumps(value)}')}"
        for key, value in values.items()
    )


def dataset_options(name):
    """How a dataset is prepared, for the command line."""
    entry = CONFIG.datasets.get(name)
    if entry is None:
        return ""
    options = [] if entry.path is None else ["--path", entry.path]
    options += [] if entry.limit is None else ["--limit", str(entry.limit)]
    for folder, class_name in entry.class_names.items():
        options += ["--class-name", f"{folder}={class_name}"]
    return shlex.join(options)


def knowledge_options():
    """Where knowledge comes from, for the command line; of the models only those that are asked, so that the settings
    of others rerun nothing."""
    values = CONFIG.knowledge.model_dump(mode="json")
    unasked = {"llm", "vqa"} - set(CONFIG.knowledge.sources)
    return settings({key: values[key] for key in values if key not in unasked})


def downloaded(wildcards):
    """The record of a dataset's download, if it has one."""
    entry = CONFIG.datasets.get(wildcards.dataset)
    local = entry is not None and entry.path is not None
    if local or load_spec(wildcards.dataset).source.kind not in ("archive", "manual"):
        return []
    return f"{RESOURCES}/{wildcards.dataset}/source.json"


def backbone_settings(name):
    """A backbone's configuration, defaults included, so that a changed default reruns the encoding."""
    return settings(PLAN.backbones[name].model_dump(mode="json"))


def stream_options(backbone, dataset):
    """What is cached of a dataset with a backbone, for the command line."""
    wanted = PLAN.encodings[backbone, dataset].items()
    return " ".join(
        f"--{name} {','.join(map(str, keys))}" for name, keys in wanted if keys
    )


def of_jobs(pattern, where=lambda job: True, jobs=PLAN.jobs):
    """A path pattern filled in for every scoring job, in the order of the tables."""
    return [
        pattern.format(
            row=job.row.name,
            backbone=job.row.backbone,
            auxiliary=job.auxiliary,
            target=job.target,
            seed=job.seed,
        )
        for job in jobs
        if where(job)
    ]


def checkpoint(wildcards):
    """The checkpoint of a trained row."""
    if wildcards.auxiliary == NO_AUXILIARY:
        return []
    return f"{RESULTS}/models/{TRAINED}/checkpoint.safetensors".format(**wildcards)


def scoring_options(wildcards):
    """A trained row scores with its checkpoint, which has its options; any other with those of the configuration."""
    path = checkpoint(wildcards)
    return f"--checkpoint {path}" if path else settings(ROWS[wildcards.row].options)


# the sample images of a figure come with one seed; the row that the run is about is its last one that is no control
FIRST_SEED = CONFIG.seeds[0]
# where all rows are on random weights, as in a trial run, they are shown all the same
SHOWN = [row.name for row in MAIN_ROWS if not row.control] or [
    row.name for row in MAIN_ROWS if not row.control_method
]


COMPARED = shlex.join(
    [f"--method={name}" for name in SHOWN]
    + [f"--dataset={name}" for name in CONFIG.targets]
)
CURVES = f"{RESULTS}/scores/{SCORED}/curves.csv"


def first_seed(target, rows):
    """The scoring jobs of some rows on a target, each with its first seed."""
    return (
        lambda job: job.target == target
        and job.row.name in rows
        and job.seed == FIRST_SEED
    )


def gallery():
    """index.csv and scores.h5 of every target and row of the page's gallery, with its first seed."""
    return [
        (f"{RESULTS}/data/{target}/index.csv", scores)
        for target in CONFIG.targets
        for scores in of_jobs(
            f"{RESULTS}/scores/{SCORED}/scores.h5", first_seed(target, SHOWN)
        )
    ]


def compared(target):
    """The scoring jobs on a target of every row that is no control, with all seeds."""
    return lambda job: job.target == target and job.row.name in SHOWN


def figures():
    """Every figure of the run, in the order of the page. Ranks need two rows and two targets."""
    names = ["teaser", "bars"]
    names += ["ranks"] if min(len(SHOWN), len(CONFIG.targets)) > 1 else []
    for target in CONFIG.targets:
        kinds = ("qualitative", "detection_curves", "histograms")
        names += [f"{kind}_{target}" for kind in kinds]
    names += ["training_curves"] if TRAININGS else []
    return [f"{RESULTS}/figures/{name}.png" for name in names]
