# Trains the embedded backbone, from scratch or from the weights in the package. It is not part of the benchmark.
PRETRAINING = "results/pretraining"
PUBLIC = CONFIG.pretraining.public_photographs
PHOTOGRAPHS = f"{PRETRAINING}/photographs" if PUBLIC else CONFIG.pretraining.photographs
# the figures of a recipe, each with the prefix of its logs
CURVES = {
    **({"learning_curves": ""} if CONFIG.pretraining.own_steps else {}),
    **({"final_curves": "final_"} if CONFIG.pretraining.final_steps else {}),
}


rule pretrain:
    input:
        f"{PRETRAINING}/kanoclip-tiny.safetensors",
        [f"{PRETRAINING}/{curves}.png" for curves in CURVES],


if PUBLIC:

    rule public_photographs:
        input:
            [f"{RESOURCES}/{source}/source.json" for source in PUBLIC],
        output:
            directory(f"{PRETRAINING}/photographs"),
        log:
            f"{PRETRAINING}/photographs.log",
        benchmark:
            f"{PRETRAINING}/photographs.tsv"
        conda:
            "../../environment.yml"
        params:
            resources=RESOURCES,
            sources=[f"--source={source}" for source in PUBLIC],
            code=command_digest("photographs"),
        message:
            "Collecting public photographs for the pretraining"
        shell:
            "python -m kanoclip --log {log:q} photographs {params.sources:q} --resources {params.resources:q} --out {output:q}"


rule pretrain_towers:
    input:
        photographs=PHOTOGRAPHS or [],
    output:
        weights=f"{PRETRAINING}/kanoclip-tiny.safetensors",
        checksum=f"{PRETRAINING}/kanoclip-tiny.sha256",
        results=f"{PRETRAINING}/results.json",
    log:
        f"{PRETRAINING}/pretrain.log",
    benchmark:
        f"{PRETRAINING}/benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=with_attempts(8000),
        runtime=with_attempts(720),
    params:
        # the state to resume from is beside the outputs but not an output, so that Snakemake does not delete it
        folder=lambda wildcards, output: Path(output.weights).parent,
        settings=settings(
            {**CONFIG.pretraining.model_dump(), "photographs": PHOTOGRAPHS}
        ),
        code=command_digest("pretrain"),
    message:
        "Training kanoclip-tiny on drawn images, and on composites if there are photographs"
    shell:
        "python -m kanoclip --log {log:q} pretrain --out {params.folder:q} {params.settings:q} --threads {threads}"


rule pretraining_curves:
    input:
        results=rules.pretrain_towers.output.results,
    output:
        png=f"{PRETRAINING}/{{curves}}.png",
        vector=multiext(f"{PRETRAINING}/{{curves}}", ".pdf", ".svg"),
    log:
        f"{PRETRAINING}/{{curves}}.log",
    benchmark:
        f"{PRETRAINING}/{{curves}}.tsv"
    wildcard_constraints:
        curves="learning_curves|final_curves",
    conda:
        "../../environment.yml"
    params:
        # logs that grow while the towers train; results.json, the input, is written when they are complete
        code=command_digest("figure", "kanoclip.report.figures.pretraining"),
        logs=lambda wildcards, input: [
            f"--{name}={Path(input.results).with_name(CURVES[wildcards.curves] + name)}.csv"
            for name in ("train", "validation")
        ],
    message:
        "Drawing the training curves of kanoclip-tiny"
    shell:
        "python -m kanoclip --log {log:q} figure pretraining_curves={output.png:q} {params.logs:q}"
