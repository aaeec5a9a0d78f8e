localrules:
    download,


rule download:
    output:
        f"{RESOURCES}/{{dataset}}/source.json",
    log:
        f"{RESOURCES}/{{dataset}}/download.log",
    wildcard_constraints:
        dataset=any_of({*dataset_names(), *CONFIG.datasets, *photograph_names()}),
    conda:
        "../../environment.yml"
    params:
        resources=lambda wildcards, output: Path(output[0]).parents[1],
    message:
        "Downloading {wildcards.dataset}"
    shell:
        "python -m kanoclip --log {log:q} download --dataset {wildcards.dataset:q} --resources {params.resources:q}"


rule prepare:
    input:
        downloaded,
    output:
        f"{RESULTS}/data/{{dataset}}/index.csv",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    params:
        resources=RESOURCES,
        options=lambda wildcards: dataset_options(wildcards.dataset),
        listing=lambda wildcards: dataset_listing(wildcards.dataset),
        code=lambda wildcards: dataset_code(wildcards.dataset),
    message:
        "Preparing {wildcards.dataset}"
    shell:
        "python -m kanoclip --log {log:q} prepare --dataset {wildcards.dataset:q} --resources {params.resources:q} {params.options:q}"
        " --out {output:q}"
