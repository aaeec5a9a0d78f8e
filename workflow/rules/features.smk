rule encode:
    input:
        index=f"{RESULTS}/data/{{dataset}}/index.csv",
    output:
        f"{RESULTS}/features/{{backbone}}/{{dataset}}.h5",
    log:
        f"{RESULTS}/logs/encode/{{backbone}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode/{{backbone}}/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        backbone=lambda wildcards: backbone_settings(wildcards.backbone),
        streams=lambda wildcards: stream_options(wildcards.backbone, wildcards.dataset),
        code=command_digest("encode"),
    message:
        "Encoding {wildcards.dataset} with {wildcards.backbone}"
    shell:
        "python -m kanoclip encode --index {input.index} --out {output} {params.backbone}"
        " {params.streams} --threads {threads} --workers {threads} > {log} 2>&1"
