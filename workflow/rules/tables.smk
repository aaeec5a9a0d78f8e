localrules:
    protocol,
    tables,
    runtime,
    ablation_table,


RUN = protocol.describe(CONFIG)
PUBLISHED = sorted(map(str, (ROOT / "config" / "published").glob("*.csv")))
FORMATS = ("csv", "md", "tex")  # beside HTML, which the report shows
TABLE_CODE = code(
    *(
        f"report/{name}"
        for name in (
            "tables",
            "cells",
            "layout",
            "metrics",
            "formats",
            "notes",
            "published",
            "run",
        )
    ),
    "metrics/registry",
)


rule protocol:
    output:
        f"{RESULTS}/protocol.json",
    log:
        f"{RESULTS}/logs/protocol.log",
    benchmark:
        f"{RESULTS}/benchmarks/protocol.tsv"
    conda:
        "../../environment.yml"
    params:
        settings=settings(CONFIG.model_dump(mode="json")),
        described=RUN.model_dump_json(),  # a change of what a method says of itself reruns it too
    message:
        "Describing the run"
    shell:
        "python -m kanoclip protocol {params.settings} --out {output} > {log} 2>&1"


rule tables:
    input:
        metrics=of_jobs(f"{RESULTS}/scores/{SCORED}/metrics.csv"),
        protocol=rules.protocol.output,
        published=PUBLISHED,
        code=TABLE_CODE,
    output:
        metrics=report(
            f"{RESULTS}/tables/metrics.csv",
            caption="../report/metrics.rst",
            category="Results",
            labels={"table": "all metrics", "format": "csv"},
        ),
        html=[
            report(
                f"{RESULTS}/tables/{table}.html",
                caption=f"../report/{'table' if table in ('main', 'full') else 'comparison'}.rst",
                category="Results",
                labels={"table": table, "format": "html"},
            )
            for table in RUN.tables
        ],
        others=expand(
            f"{RESULTS}/tables/{{table}}.{{format}}",
            table=RUN.tables,
            format=FORMATS,
        ),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    conda:
        "../../environment.yml"
    params:
        folder=lambda wildcards, output: Path(output.metrics).parent,
        published=lambda wildcards, input: [
            f"--published={path}" for path in input.published
        ],
    message:
        "Rendering the tables"
    shell:
        "python -m kanoclip tables {input.metrics} --protocol {input.protocol} {params.published:q}"
        " --out {params.folder} > {log} 2>&1"


rule runtime:
    input:
        costs=of_jobs(f"{RESULTS}/scores/{SCORED}/cost.json"),
        # Snakemake writes them beside the outputs of these jobs
        benchmarks=sorted(
            set(of_jobs(f"{RESULTS}/benchmarks/score/{{backbone}}/{{target}}.tsv"))
        ),
        trainings=sorted(
            set(
                of_jobs(
                    f"{RESULTS}/benchmarks/train/{{row}}/{{backbone}}/{{auxiliary}}.tsv",
                    lambda job: job.row.kind.trainable,
                )
            )
        ),
        protocol=rules.protocol.output,
        code=code(
            *(f"report/{name}" for name in ("runtime", "formats", "notes", "run"))
        ),
    output:
        html=report(
            f"{RESULTS}/tables/runtime.html",
            caption="../report/runtime.rst",
            category="Results",
            labels={"table": "runtime", "format": "html"},
        ),
        others=expand(f"{RESULTS}/tables/runtime.{{format}}", format=FORMATS),
    log:
        f"{RESULTS}/logs/runtime.log",
    benchmark:
        f"{RESULTS}/benchmarks/runtime.tsv"
    conda:
        "../../environment.yml"
    params:
        models=f"{RESULTS}/models",
        benchmarks=f"{RESULTS}/benchmarks",
        folder=lambda wildcards, output: Path(output.html).parent,
    message:
        "Rendering the runtime table"
    shell:
        "python -m kanoclip runtime {input.costs} --models {params.models} --benchmarks {params.benchmarks}"
        " --protocol {input.protocol} --out {params.folder} > {log} 2>&1"


rule ablation_table:
    input:
        metrics=lambda wildcards: of_jobs(
            f"{RESULTS}/scores/{SCORED}/metrics.csv",
            jobs=protocol.ablation_jobs(CONFIG, wildcards.ablation),
        ),
        protocol=rules.protocol.output,
        published=PUBLISHED,
        code=TABLE_CODE,
    output:
        metrics=f"{RESULTS}/ablations/{{ablation}}/metrics.csv",
        html=report(
            f"{RESULTS}/ablations/{{ablation}}/{{ablation}}.html",
            caption="../report/comparison.rst",
            category="Results",
            labels={"table": "ablation {ablation}", "format": "html"},
        ),
        others=multiext(
            f"{RESULTS}/ablations/{{ablation}}/{{ablation}}",
            *(f".{name}" for name in FORMATS),
        ),
    log:
        f"{RESULTS}/logs/ablations/{{ablation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ablations/{{ablation}}.tsv"
    wildcard_constraints:
        ablation=any_of(CONFIG.ablations) or "none",
    conda:
        "../../environment.yml"
    params:
        folder=lambda wildcards, output: Path(output.metrics).parent,
        published=lambda wildcards, input: [
            f"--published={path}" for path in input.published
        ],
    message:
        "Rendering the ablation {wildcards.ablation}"
    shell:
        "python -m kanoclip tables {input.metrics} --protocol {input.protocol} {params.published:q}"
        " --ablation {wildcards.ablation:q} --out {params.folder} > {log} 2>&1"


rule ablation:
    input:
        expand(
            [
                f"{RESULTS}/ablations/{{ablation}}/{{ablation}}.html",
                f"{RESULTS}/ablations/{{ablation}}/steps_{{ablation}}.png",
            ],
            ablation=CONFIG.ablations,
        ),
