rule knowledge:
    input:
        index=f"{RESULTS}/data/{{dataset}}/index.csv",
    output:
        f"{RESULTS}/knowledge/{{dataset}}.jsonl",
    log:
        f"{RESULTS}/logs/knowledge/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/knowledge/{{dataset}}.tsv"
    # language models are queried on a node with network access, which compute nodes often lack
    localrule: not {"llm", "vqa"}.isdisjoint(CONFIG.knowledge.sources)
    conda:
        "../../environment.yml"
    params:
        options=knowledge_options(),
        code=lambda wildcards: knowledge_code(wildcards.dataset),
        # not an output, because Snakemake deletes the outputs of a failed job, and these answers cost money
        answers=f"{RESOURCES}/knowledge/{{dataset}}.jsonl",
    message:
        "Collecting descriptions of {wildcards.dataset}"
    shell:
        "python -m kanoclip --log {log:q} knowledge --dataset {wildcards.dataset:q} --index {input.index:q} {params.options:q}"
        " --answers {params.answers:q} --out {output:q}"
