# One rule per figure of a run, from the declarations in kanoclip/report/figures, with inputs and caption.
from functools import partial
from itertools import chain, groupby

from kanoclip.files import write_text
from kanoclip.report.registry import figures, of_file

FIGURE_PATHS = {
    "run": f"{RESULTS}/figures/",
    "target": f"{RESULTS}/figures/",
    "ablation": f"{RESULTS}/ablations/{{ablation}}/",
}
SHOWN = RUN.shown(CONFIG.shown_rows)
# the last row is the subject of the run; it comes first in figures whose first row picks the images
LEADING = [*SHOWN[-1:], *SHOWN[:-1]]


def first_scores(target, rows):
    """Return the scores.h5 of some rows on a target with their first seed, because samples show one seed."""
    first = {}
    for job in RUN.jobs_of(rows):
        if job.target == target:
            first.setdefault(job.row, job)
    return of_jobs(first.values(), "scores.h5")


def drawn_from(per, of=None):
    """Return the inputs of the figures of the run, a target or an ablation: command line values by name of the input."""
    if per == "target":
        jobs = [job for job in RUN.jobs_of(SHOWN) if job.target == of]
        return {
            "index": [str(LAYOUT.index(of))],
            "scores": first_scores(of, LEADING),
            "curves": [f"{job.row}={of_jobs([job], 'curves.csv')[0]}" for job in jobs],
        }
    if per == "ablation":
        return {
            "metrics": [f"{RESULTS}/ablations/{of}/metrics.csv"],
            "methods": list(RUN.ablations[of]),
            "datasets": CONFIG.targets,
        }
    return {
        "pairs": [
            f"{LAYOUT.index(target)}={path}"
            for target in CONFIG.targets
            for path in first_scores(target, SHOWN[-1:])
        ],
        "metrics": [f"{RESULTS}/tables/metrics.csv"],
        "methods": SHOWN,
        "datasets": CONFIG.targets,
        "logs": [
            f"{one.row} on {one.auxiliary}={path}"
            for one in RUN.trainings
            if one.row in RUN.main
            for path in training_logs(one)
        ],
    }


def drawn(per, of=None):
    """Return the figures of the run, a target or an ablation, in the order of the page."""
    given = drawn_from(per, of)
    return [
        figure
        for figure in figures().values()
        if figure.per == per and figure.can_be_drawn(given)
    ]


def given(per, of=None):
    """Return the inputs that these figures read, by name."""
    needed = {name for figure in drawn(per, of) for name in figure.inputs}
    return {
        name: values for name, values in drawn_from(per, of).items() if name in needed
    }


def files_given(per, wildcards):
    """Return the files among these inputs."""
    values = chain.from_iterable(given(per, wildcards.get(per)).values())
    parts = [part for value in values for part in value.split("=")]
    return [part for part in parts if part.startswith(f"{RESULTS}/")]


def options_given(per, wildcards):
    """Return these inputs as options of the command line."""
    return [
        f"--{name}={value}"
        for name, values in given(per, wildcards.get(per)).items()
        for value in values
    ]


def caption(figure):
    """Return the file with a figure's caption, which Snakemake's report needs; write it if the caption changed."""
    path = Path(".snakemake/captions").absolute() / f"{figure.name}.rst"
    if not path.is_file() or path.read_text(encoding="utf-8") != figure.caption:
        write_text(path, figure.caption)
    return str(path)


def figure_code(drawings):
    """Return the digest of the code that draws some figures."""
    modules = sorted(
        {f"kanoclip.report.figures.{figure.module}" for figure in drawings}
    )
    return command_digest("figure", *modules)


def page_figures():
    """Return every figure of the run in the order of the page, grouped by target."""
    names = []
    for per, group in groupby(figures().values(), lambda figure: figure.per):
        group = list(group)
        for of in {"run": [None], "target": CONFIG.targets}.get(per, []):
            names += [
                figure.file_name(of) for figure in drawn(per, of) if figure in group
            ]
    return [f"{RESULTS}/figures/{name}.png" for name in names]


def gallery():
    """Return INDEX=SCORES of every target and row of the page's gallery, with the first seed."""
    return [
        f"{LAYOUT.index(target)}={scores}"
        for target in CONFIG.targets
        for scores in first_scores(target, SHOWN)
    ]


for per, names in {
    "run": [None],
    "target": CONFIG.targets,
    "ablation": list(CONFIG.ablations),
}.items():
    drawings = drawn(per, names[0]) if names else []
    wildcard = None if per == "run" else f"{{{per}}}"
    stems = [FIGURE_PATHS[per] + figure.file_name(wildcard) for figure in drawings]
    if not drawings:
        continue

    rule:
        name:
            f"figures_of_{per}"
        input:
            partial(files_given, per),
        output:
            png=[
                report(
                    f"{stem}.png",
                    caption=caption(figure),
                    category=figure.category,
                    subcategory=wildcard,
                    labels={"figure": figure.title},
                )
                for figure, stem in zip(drawings, stems)
            ],
            vector=[f"{stem}{suffix}" for stem in stems for suffix in (".pdf", ".svg")],
        log:
            f"{RESULTS}/logs/figures/{wildcard or per}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figures/{wildcard or per}.tsv"
        localrule: True
        conda:
            "../../environment.yml"
        params:
            figures=lambda wildcards, output: [
                f"{of_file(Path(png))[0].name}={png}" for png in output.png
            ],
            options=partial(options_given, per),
            code=figure_code(drawings),
        message:
            f"Drawing the figures of the {per}"
            + (f" {{wildcards.{per}}}" if wildcard else "")
        shell:
            "printf '%s\\n' {params.options:q} | python -m kanoclip --log {log:q} figure {params.figures:q} @-"
