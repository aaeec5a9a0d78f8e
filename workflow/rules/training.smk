rule train:
    input:
        features=cached_features,
        index=LAYOUT.index("{auxiliary}"),
        knowledge=LAYOUT.knowledge("{auxiliary}"),
        weights=lambda wildcards: fetched(wildcards.backbone),
    output:
        expand(
            f"{LAYOUT.models('{row}', '{backbone}', '{auxiliary}')}/seed{{seed}}/{{file}}",
            seed=CONFIG.seeds,
            file=("checkpoint.safetensors", "train.csv", "cost.json"),
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/train/{{row}}/{{backbone}}/{{auxiliary}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{row}}/{{backbone}}/{{auxiliary}}.tsv"
    wildcard_constraints:
        row=any_of(row.name for row in RUN.rows if row.trained_here),
    conda:
        "../../environment.yml"
    threads: LOADING_THREADS
    resources:
        gpu=1,
        mem_mb=with_attempts(16000),
        runtime=with_attempts(480),
    params:
        method=lambda wildcards: RUN.row(wildcards.row).method,
        options=lambda wildcards: settings(
            RUN.row(wildcards.row).options_on(wildcards.auxiliary)
        ),
        source=lambda wildcards: source_options(wildcards.backbone, wildcards.auxiliary),
        seeds=[f"--seed={seed}" for seed in CONFIG.seeds],
        folds=CONFIG.threshold_folds,
        out=lambda wildcards: LAYOUT.models(**wildcards),
        store=lambda wildcards: LAYOUT.store,
        weights=lambda wildcards: weights_digest(wildcards.backbone),
        code=lambda wildcards: methods_code("train", [wildcards.row]),
    message:
        "Training {wildcards.row} on {wildcards.auxiliary}"
    shell:
        "python -m kanoclip --log {log:q} train --method {params.method:q} {params.options:q} {params.seeds:q} --threshold-folds {params.folds:q}"
        " --auxiliary {wildcards.auxiliary:q} {params.source:q} --index {input.index:q} --knowledge {input.knowledge:q}"
        " --out {params.out:q} --store {params.store:q} --threads {threads} --workers {threads}"
