localrules:
    page,


rule page:
    input:
        table=f"{RESULTS}/tables/main.html",
        metrics=f"{RESULTS}/tables/metrics.csv",
        figures=page_figures(),
        indices=expand(f"{RESULTS}/data/{{target}}/index.csv", target=CONFIG.targets),
        scores=[pair.split("=")[1] for pair in gallery()],
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
        code=command_digest("page"),
        title=f"kanoclip: {CONFIG.run}",
        options=[f"--scores={pair}" for pair in gallery()]
        + [
            f"--hidden={name}"
            for name in RUN.shown(len(RUN.main))
            if name not in SHOWN
        ],
        # an edited caption triggers only the page
        captions=[figure.caption for figure in figures().values()],
    message:
        "Writing the page"
    shell:
        "printf '%s\\n' {params.options:q} |"
        " python -m kanoclip --log {log:q} page {input.figures:q} --table {input.table:q} --out {output:q} --title {params.title:q}"
        " --metrics {input.metrics:q} @-"
