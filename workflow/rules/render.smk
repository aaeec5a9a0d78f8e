localrules:
    tables,
    qualitative,
    teaser,
    curves,
    page,


rule tables:
    input:
        metrics=of_jobs(f"{RESULTS}/scores/{SCORED}/metrics.csv"),
        code=code("report/tables", "report/formats", "metrics/registry"),
    output:
        metrics=report(
            f"{RESULTS}/tables/metrics.csv",
            caption="../report/metrics.rst",
            category="Results",
            labels={"table": "all metrics", "format": "csv"},
        ),
        main=f"{RESULTS}/tables/main.csv",
        markdown=f"{RESULTS}/tables/main.md",
        latex=f"{RESULTS}/tables/main.tex",
        html=report(
            f"{RESULTS}/tables/main.html",
            caption="../report/table.rst",
            category="Results",
            labels={"table": "main", "format": "html"},
        ),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    conda:
        "../../environment.yml"
    params:
        folder=lambda wildcards, output: Path(output.metrics).parent,
        options=TABLE_OPTIONS,
    message:
        "Rendering the tables"
    shell:
        "python -m kanoclip tables {input.metrics} --out {params.folder} {params.options} > {log} 2>&1"


rule qualitative:
    input:
        index=f"{RESULTS}/data/{{target}}/index.csv",
        scores=lambda wildcards: of_jobs(
            f"{RESULTS}/scores/{SCORED}/scores.h5",
            first_seed(wildcards.target, SHOWN[::-1]),
        ),
        code=code("report/figures", "report/grid", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/qualitative_{{target}}.png",
            caption="../report/qualitative.rst",
            category="Results",
            subcategory="{target}",
            labels={"figure": "anomaly maps"},
        ),
        vector=multiext(f"{RESULTS}/figures/qualitative_{{target}}", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/qualitative/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/qualitative/{{target}}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Drawing anomaly maps on {wildcards.target}"
    shell:
        "python -m kanoclip qualitative {input.scores} --index {input.index} --out {output.png} > {log} 2>&1"


rule teaser:
    input:
        indices=expand(f"{RESULTS}/data/{{target}}/index.csv", target=CONFIG.targets),
        scores=[
            path
            for target in CONFIG.targets
            for path in of_jobs(
                f"{RESULTS}/scores/{SCORED}/scores.h5", first_seed(target, SHOWN[-1:])
            )
        ],
        code=code("report/figures", "report/grid", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/teaser.png",
            caption="../report/teaser.rst",
            category="Results",
            labels={"figure": "overview"},
        ),
        vector=multiext(f"{RESULTS}/figures/teaser", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/teaser.log",
    benchmark:
        f"{RESULTS}/benchmarks/teaser.tsv"
    conda:
        "../../environment.yml"
    params:
        pairs=lambda wildcards, input: [
            f"{index}={scores}" for index, scores in zip(input.indices, input.scores)
        ],
    message:
        "Drawing the overview"
    shell:
        "python -m kanoclip teaser {params.pairs:q} --out {output.png} > {log} 2>&1"


rule curves:
    input:
        logs=[
            f"{RESULTS}/models/{TRAINED}/train.csv".format(
                row=job.row.name,
                backbone=job.row.backbone,
                auxiliary=job.auxiliary,
                seed=job.seed,
            )
            for job in TRAININGS
        ],
        code=code("report/figures", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/training_curves.png",
            caption="../report/training_curves.rst",
            category="Diagnostics",
            labels={"figure": "training curves"},
        ),
        vector=multiext(f"{RESULTS}/figures/training_curves", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/curves.tsv"
    conda:
        "../../environment.yml"
    params:
        logs=lambda wildcards, input: [
            f"{job.row.name} on {job.auxiliary}={path}"
            for job, path in zip(TRAININGS, input.logs)
        ],
    message:
        "Drawing the training curves"
    shell:
        "python -m kanoclip curves {params.logs:q} --out {output.png} > {log} 2>&1"


rule page:
    input:
        table=f"{RESULTS}/tables/main.html",
        figures=figures(),
        indices=expand(f"{RESULTS}/data/{{target}}/index.csv", target=CONFIG.targets),
        scores=[scores for _, scores in gallery()],
        code=code("report", "metrics/classification", "metrics/ranking"),
    output:
        report(
            f"{RESULTS}/index.html",
            caption="../report/page.rst",
            category="Results",
            labels={"table": "page", "format": "html"},
        ),
    log:
        f"{RESULTS}/logs/page.log",
    benchmark:
        f"{RESULTS}/benchmarks/page.tsv"
    conda:
        "../../environment.yml"
    params:
        title=f"kanoclip: {CONFIG.run}",
        scores=shlex.join(f"--scores={index}={path}" for index, path in gallery()),
    message:
        "Writing the page"
    shell:
        "python -m kanoclip page {input.figures} --table {input.table} --out {output} --title {params.title:q}"
        " {params.scores} > {log} 2>&1"
