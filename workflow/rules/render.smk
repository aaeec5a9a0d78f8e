localrules:
    tables,
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
