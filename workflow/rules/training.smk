rule train:
    input:
        features=f"{RESULTS}/features/{{backbone}}/{{auxiliary}}.h5",
        index=f"{RESULTS}/data/{{auxiliary}}/index.csv",
        knowledge=f"{RESULTS}/knowledge/{{auxiliary}}.jsonl",
    output:
        checkpoint=f"{RESULTS}/models/{TRAINED}/checkpoint.safetensors",
        curves=f"{RESULTS}/models/{TRAINED}/train.csv",
    log:
        f"{RESULTS}/logs/train/{TRAINED}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{TRAINED}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=480,
    params:
        method=lambda wildcards: ROWS[wildcards.row].method,
        options=lambda wildcards: settings(ROWS[wildcards.row].options),
        code=lambda wildcards: method_code("train", wildcards.row),
    message:
        "Training {wildcards.row} on {wildcards.auxiliary}, seed {wildcards.seed}"
    shell:
        "python -m kanoclip train --method {params.method} {params.options} --seed {wildcards.seed}"
        " --auxiliary {wildcards.auxiliary} --features {input.features} --index {input.index}"
        " --knowledge {input.knowledge} --out {output.checkpoint} --log {output.curves}"
        " --threads {threads} > {log} 2>&1"
