# Pretrained weights of backbones are downloaded once, on a node with network access, which compute nodes may lack.
localrules:
    fetch_backbone,


rule fetch_backbone:
    output:
        f"{RESOURCES}/backbones/{{backbone}}.json",
    log:
        f"{RESOURCES}/backbones/{{backbone}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: settings(backbone_values(wildcards.backbone)),
    message:
        "Downloading the weights of {wildcards.backbone}"
    shell:
        "python -m kanoclip --log {log:q} fetch-backbone {params.settings:q} --out {output:q}"
