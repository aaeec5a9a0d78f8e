localrules:
    protocol,
    tables,
    runtime,
    ablation_table,


# relative, so that a copy of the project needs no rerun
PUBLISHED = sorted(
    os.path.relpath(path) for path in (ROOT / "config" / "published").glob("*.csv")
)
FORMATS = ("csv", "md", "tex")  # in addition to HTML, which the report shows


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
        # includes the attributes of methods, so that their changes are detected
        run=RUN.model_dump_json(),
        code=command_digest("protocol"),
    message:
        "Writing the protocol of the run"
    shell:
        "printf '%s\\n' {params.settings:q} | python -m kanoclip --log {log:q} protocol @- --out {output:q}"


rule tables:
    input:
        metrics=metrics_of(RUN.main),
        protocol=rules.protocol.output,
        published=PUBLISHED,
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
        published=[f"--published={path}" for path in PUBLISHED],
        code=command_digest("tables"),
    message:
        "Rendering the tables"
    shell:
        "printf '%s\\n' {input.metrics:q} | python -m kanoclip --log {log:q} tables @- --protocol {input.protocol:q} {params.published:q}"
        " --out {params.folder:q}"


rule runtime:
    input:
        costs=of_jobs(MAIN_JOBS, "cost.json"),
        protocol=rules.protocol.output,
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
        models=lambda wildcards: f"{RESULTS}/models",
        folder=lambda wildcards, output: Path(output.html).parent,
        code=command_digest("runtime"),
    message:
        "Rendering the runtime table"
    shell:
        "printf '%s\\n' {input.costs:q} | python -m kanoclip --log {log:q} runtime @- --models {params.models:q}"
        " --protocol {input.protocol:q} --out {params.folder:q}"


rule ablation_table:
    input:
        metrics=lambda wildcards: metrics_of(RUN.ablations[wildcards.ablation]),
        protocol=rules.protocol.output,
        published=PUBLISHED,
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
    conda:
        "../../environment.yml"
    params:
        folder=lambda wildcards, output: Path(output.metrics).parent,
        published=[f"--published={path}" for path in PUBLISHED],
        code=command_digest("tables"),
    message:
        "Rendering the ablation {wildcards.ablation}"
    shell:
        "printf '%s\\n' {input.metrics:q} | python -m kanoclip --log {log:q} tables @- --protocol {input.protocol:q} {params.published:q}"
        " --ablation {wildcards.ablation:q} --out {params.folder:q}"


rule ablation:
    input:
        expand(
            [
                f"{RESULTS}/ablations/{{ablation}}/{{ablation}}.html",
                f"{RESULTS}/ablations/{{ablation}}/steps_{{ablation}}.png",
            ],
            ablation=CONFIG.ablations,
        ),
