# Published weights replace a training: they are downloaded on a node with network access and imported on any node.
localrules:
    fetch_weights,


rule fetch_weights:
    output:
        f"{RESOURCES}/weights/{{method}}/{{auxiliary}}/source.json",
    log:
        f"{RESOURCES}/weights/{{method}}/{{auxiliary}}/fetch.log",
    retries: 3
    conda:
        "../../environment.yml"
    params:
        resources=lambda wildcards, output: Path(output[0]).parents[3],
        files=lambda wildcards: released_files(wildcards.method, wildcards.auxiliary),
    message:
        "Downloading the published weights of {wildcards.method}, trained on {wildcards.auxiliary}"
    shell:
        "python -m kanoclip --log {log:q} fetch-weights {wildcards.method:q} --auxiliary {wildcards.auxiliary:q}"
        " --resources {params.resources:q}"


rule import_weights:
    input:
        source=lambda wildcards: f"{RESOURCES}/weights/{RUN.row(wildcards.row).method}/{wildcards.auxiliary}/source.json",
        weights=lambda wildcards: fetched(wildcards.backbone),
    output:
        f"{LAYOUT.models('{row}', '{backbone}', '{auxiliary}')}/seed{{seed}}/checkpoint.safetensors",
    log:
        f"{RESULTS}/logs/import/{{row}}/{{backbone}}/{{auxiliary}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import/{{row}}/{{backbone}}/{{auxiliary}}/seed{{seed}}.tsv"
    wildcard_constraints:
        row=any_of(row.name for row in RUN.rows if row.weights == "published"),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=with_attempts(16000),
        runtime=with_attempts(60),
    params:
        method=lambda wildcards: RUN.row(wildcards.row).method,
        files=published_paths,
        digests=lambda wildcards: digests_of(published_paths(wildcards)),
        options=lambda wildcards: settings(
            RUN.row(wildcards.row).options_on(wildcards.auxiliary)
        ),
        backbone=lambda wildcards: set_options(
            "--backbone-set", backbone_values(wildcards.backbone)
        ),
        weights=lambda wildcards: weights_digest(wildcards.backbone),
        code=lambda wildcards: methods_code("import", [wildcards.row]),
    message:
        "Importing the published weights of {wildcards.row}, trained on {wildcards.auxiliary}"
    shell:
        "python -m kanoclip --log {log:q} import {params.method:q} {params.files:q} --out {output:q} --auxiliary"
        " {wildcards.auxiliary:q} {params.options:q} {params.backbone:q} --seed {wildcards.seed:q} --threads {threads}"
