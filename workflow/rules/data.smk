localrules:
    download,


rule download:
    message:
        "Downloading {wildcards.dataset}"
    output:
        f"{RESOURCES}/{{dataset}}/source.json",
    log:
        f"{RESOURCES}/{{dataset}}/download.log",
    retries: 3
    params:
        resources=RESOURCES,
    shell:
        "kanoclip download --dataset {wildcards.dataset} --resources {params.resources:q} > {log} 2>&1"


rule prepare:
    message:
        "Preparing {wildcards.dataset}"
    input:
        downloaded,
        code=code("datasets"),
    output:
        f"{RESULTS}/data/{{dataset}}/index.csv",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    params:
        resources=RESOURCES,
        options=lambda wildcards: dataset_options(wildcards.dataset),
    shell:
        "kanoclip prepare --dataset {wildcards.dataset} --resources {params.resources:q} {params.options}"
        " --out {output} > {log} 2>&1"
