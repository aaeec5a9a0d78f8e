localrules:
    page,


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
