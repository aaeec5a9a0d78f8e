rule knowledge:
    input:
        index=f"{RESULTS}/data/{{dataset}}/index.csv",
        code=code("knowledge"),
    output:
        f"{RESULTS}/knowledge/{{dataset}}.jsonl",
    log:
        f"{RESULTS}/logs/knowledge/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/knowledge/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Collecting knowledge about {wildcards.dataset}"
    shell:
        "python -m kanoclip knowledge --dataset {wildcards.dataset} --index {input.index} --out {output} > {log} 2>&1"
