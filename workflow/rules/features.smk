rule encode:
    input:
        index=LAYOUT.index("{dataset}"),
        weights=lambda wildcards: fetched(wildcards.backbone),
    output:
        LAYOUT.features("{backbone}", "{dataset}"),
    log:
        f"{RESULTS}/logs/encode/{{backbone}}/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode/{{backbone}}/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: LOADING_THREADS
    resources:
        gpu=1,
        mem_mb=with_attempts(8000),
        runtime=with_attempts(240),
    params:
        backbone=lambda wildcards: settings(backbone_values(wildcards.backbone)),
        taps=lambda wildcards: tap_options(wildcards.backbone, wildcards.dataset),
        weights=lambda wildcards: weights_digest(wildcards.backbone),
        code=command_digest("encode"),
    message:
        "Encoding {wildcards.dataset} with {wildcards.backbone}"
    shell:
        "python -m kanoclip --log {log:q} encode --index {input.index:q} --out {output:q} {params.backbone:q}"
        " {params.taps:q} --threads {threads} --workers {threads}"
