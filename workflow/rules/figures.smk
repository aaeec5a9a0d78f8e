# Every figure of a run, from the declarations in kanoclip/report/figures: what it is drawn from, its rule and its caption.
from functools import partial
from itertools import chain, groupby

from kanoclip.files import write_text
from kanoclip.report.registry import figures, of_file

SCORES = f"{RESULTS}/scores/{SCORED}/scores.h5"
CURVES = f"{RESULTS}/scores/{SCORED}/curves.csv"
FIGURE_PATHS = {
    "run": f"{RESULTS}/figures/",
    "target": f"{RESULTS}/figures/",
    "ablation": f"{RESULTS}/ablations/{{ablation}}/",
}
# the rows that are shown; where all rows are on random weights, as in a trial run, they are shown all the same
SHOWN = [row.name for row in MAIN_ROWS if not row.control] or [
    row.name for row in MAIN_ROWS if not row.kind.control
]
# the run is about the last of them: it comes first where the first row picks the images
LEADING = [*SHOWN[-1:], *SHOWN[:-1]]


def of_row(pattern, target, row):
    """A path pattern filled in for a row on a target, with its first seed: sample images come with one seed."""
    return of_jobs(
        pattern,
        lambda job: (job.target, job.row.name, job.seed)
        == (target, row, CONFIG.seeds[0]),
    )


def drawn_from(per, of=None):
    """What the run, a target or an ablation gives to its figures: by the name of the input, values of the command line."""
    if per == "target":
        shown = lambda job: job.target == of and job.row.name in SHOWN
        return {
            "index": [f"{RESULTS}/data/{of}/index.csv"],
            "scores": [path for row in LEADING for path in of_row(SCORES, of, row)],
            "curves": of_jobs(f"{{row}}={CURVES}", shown),
        }
    if per == "ablation":
        variants = protocol.ablation_rows(CONFIG, of)
        return {
            "metrics": [f"{RESULTS}/ablations/{of}/metrics.csv"],
            "methods": [row.name for row in variants],
            "datasets": CONFIG.targets,
        }
    return {
        "pairs": [
            f"{RESULTS}/data/{target}/index.csv={path}"
            for target in CONFIG.targets
            for row in SHOWN[-1:]
            for path in of_row(SCORES, target, row)
        ],
        "metrics": [f"{RESULTS}/tables/metrics.csv"],
        "methods": SHOWN,
        "datasets": CONFIG.targets,
        "logs": [
            f"{job.row.name} on {job.auxiliary}={RESULTS}/models/{TRAINED}/train.csv".format(
                row=job.row.name,
                backbone=job.row.backbone,
                auxiliary=job.auxiliary,
                seed=job.seed,
            )
            for job in TRAININGS
        ],
    }


def drawn(per, of=None):
    """The figures of the run, a target or an ablation, in the order of the page."""
    given = drawn_from(per, of)
    return [
        figure
        for figure in figures().values()
        if figure.per == per and figure.can_be_drawn(given)
    ]


def given(per, of=None):
    """The inputs that these figures read, by name."""
    needed = {name for figure in drawn(per, of) for name in figure.inputs}
    return {
        name: values for name, values in drawn_from(per, of).items() if name in needed
    }


def files_given(per, wildcards):
    """The files among these inputs."""
    values = chain.from_iterable(given(per, wildcards.get(per)).values())
    parts = [part for value in values for part in value.split("=")]
    return [part for part in parts if part.startswith(f"{RESULTS}/")]


def options_given(per, wildcards):
    """These inputs, for the command line."""
    return [
        f"--{name}={value}"
        for name, values in given(per, wildcards.get(per)).items()
        for value in values
    ]


def caption(figure):
    """A figure's caption as a file, which Snakemake's report wants. It is written when it has changed."""
    path = Path(".snakemake/captions").absolute() / f"{figure.name}.rst"
    if not path.is_file() or path.read_text(encoding="utf-8") != figure.caption:
        write_text(path, figure.caption)
    return str(path)


def figure_code(drawings):
    """The code that draws some figures."""
    return code(
        *(f"report/figures/{figure.module}" for figure in drawings),
        *(
            f"report/{name}"
            for name in ("figures/summary", "grid", "heat", "metrics", "style")
        ),
        *(f"metrics/{name}" for name in ("classification", "ranking", "ranks")),
    )


def page_figures():
    """Every figure of the run in the order of the page, where those of a target stand together."""
    names = []
    for per, group in groupby(figures().values(), lambda figure: figure.per):
        group = list(group)
        for of in {"run": [None], "target": CONFIG.targets}.get(per, []):
            names += [
                figure.file_name(of) for figure in drawn(per, of) if figure in group
            ]
    return [f"{RESULTS}/figures/{name}.png" for name in names]


def gallery():
    """INDEX=SCORES of every target and row of the page's gallery, with the first seed."""
    return [
        f"{RESULTS}/data/{target}/index.csv={scores}"
        for target in CONFIG.targets
        for row in SHOWN
        for scores in of_row(SCORES, target, row)
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
            code=figure_code(drawings),
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
        wildcard_constraints:
            ablation=any_of(CONFIG.ablations),
        localrule: True
        conda:
            "../../environment.yml"
        params:
            figures=lambda wildcards, output: [
                f"{of_file(Path(png))[0].name}={png}" for png in output.png
            ],
            options=partial(options_given, per),
        message:
            f"Drawing the figures of the {per}"
            + (f" {{wildcards.{per}}}" if wildcard else "")
        shell:
            "python -m kanoclip figure {params.figures} {params.options:q} > {log} 2>&1"
