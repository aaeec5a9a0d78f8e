rule score:
    input:
        features=f"{RESULTS}/features/{{backbone}}/{{target}}.h5",
        index=f"{RESULTS}/data/{{target}}/index.csv",
        checkpoint=checkpoint,
    output:
        f"{RESULTS}/scores/{SCORED}/scores.h5",
    log:
        f"{RESULTS}/logs/score/{SCORED}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{SCORED}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        method=lambda wildcards: ROWS[wildcards.row].method,
        # a function of the wildcards alone: what is derived from the input does not count as a change
        options=lambda wildcards: scoring_options(wildcards),
        code=lambda wildcards: method_code("score", wildcards.row),
    message:
        "Scoring {wildcards.target} with {wildcards.row}, seed {wildcards.seed}"
    shell:
        "python -m kanoclip score --method {params.method} {params.options} --seed {wildcards.seed}"
        " --row {wildcards.row} --backbone {wildcards.backbone} --dataset {wildcards.target}"
        " --features {input.features} --index {input.index} --out {output} --threads {threads} > {log} 2>&1"


rule evaluate:
    input:
        scores=rules.score.output,
        index=f"{RESULTS}/data/{{target}}/index.csv",
    output:
        metrics=f"{RESULTS}/scores/{SCORED}/metrics.csv",
        curves=f"{RESULTS}/scores/{SCORED}/curves.csv",
    log:
        f"{RESULTS}/logs/evaluate/{SCORED}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{SCORED}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        resolution=(
            f"--resolution {CONFIG.evaluation.resolution}"
            if CONFIG.evaluation.resolution is not None
            else ""
        ),
        bootstrap=CONFIG.evaluation.bootstrap,
        code=command_digest("evaluate"),
    message:
        "Evaluating {wildcards.row} on {wildcards.target}, seed {wildcards.seed}"
    shell:
        "python -m kanoclip evaluate --scores {input.scores} --index {input.index} {params.resolution}"
        " --bootstrap {params.bootstrap} --out {output.metrics} --threads {threads} > {log} 2>&1"
