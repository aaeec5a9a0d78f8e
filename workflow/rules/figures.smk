localrules:
    qualitative,
    teaser,
    histograms,
    detection_curves,
    bars,
    ranks,
    steps,
    curves,


rule qualitative:
    input:
        index=f"{RESULTS}/data/{{target}}/index.csv",
        scores=lambda wildcards: of_jobs(
            f"{RESULTS}/scores/{SCORED}/scores.h5",
            first_seed(wildcards.target, SHOWN[::-1]),
        ),
        code=code("report/figures/samples", "report/grid", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/qualitative_{{target}}.png",
            caption="../report/qualitative.rst",
            category="Results",
            subcategory="{target}",
            labels={"figure": "anomaly maps"},
        ),
        vector=multiext(f"{RESULTS}/figures/qualitative_{{target}}", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/qualitative/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/qualitative/{{target}}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Drawing anomaly maps on {wildcards.target}"
    shell:
        "python -m kanoclip qualitative {input.scores} --index {input.index} --out {output.png} > {log} 2>&1"


rule teaser:
    input:
        indices=expand(f"{RESULTS}/data/{{target}}/index.csv", target=CONFIG.targets),
        scores=[
            path
            for target in CONFIG.targets
            for path in of_jobs(
                f"{RESULTS}/scores/{SCORED}/scores.h5", first_seed(target, SHOWN[-1:])
            )
        ],
        code=code("report/figures/samples", "report/grid", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/teaser.png",
            caption="../report/teaser.rst",
            category="Results",
            labels={"figure": "overview"},
        ),
        vector=multiext(f"{RESULTS}/figures/teaser", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/teaser.log",
    benchmark:
        f"{RESULTS}/benchmarks/teaser.tsv"
    conda:
        "../../environment.yml"
    params:
        pairs=lambda wildcards, input: [
            f"{index}={scores}" for index, scores in zip(input.indices, input.scores)
        ],
    message:
        "Drawing the overview"
    shell:
        "python -m kanoclip teaser {params.pairs:q} --out {output.png} > {log} 2>&1"


rule histograms:
    input:
        index=f"{RESULTS}/data/{{target}}/index.csv",
        scores=lambda wildcards: of_jobs(
            f"{RESULTS}/scores/{SCORED}/scores.h5",
            first_seed(wildcards.target, SHOWN[::-1]),
        ),
        code=code(
            "report/figures/histograms",
            "report/style",
            "metrics/classification",
            "metrics/ranking",
        ),
    output:
        png=report(
            f"{RESULTS}/figures/histograms_{{target}}.png",
            caption="../report/histograms.rst",
            category="Diagnostics",
            subcategory="{target}",
            labels={"figure": "image scores"},
        ),
        vector=multiext(f"{RESULTS}/figures/histograms_{{target}}", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/histograms/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/histograms/{{target}}.tsv"
    conda:
        "../../environment.yml"
    message:
        "Drawing image scores on {wildcards.target}"
    shell:
        "python -m kanoclip histograms {input.scores} --index {input.index} --out {output.png} > {log} 2>&1"


rule detection_curves:
    input:
        curves=lambda wildcards: of_jobs(CURVES, compared(wildcards.target)),
        code=code("report/figures/curves", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/detection_curves_{{target}}.png",
            caption="../report/detection_curves.rst",
            category="Results",
            subcategory="{target}",
            labels={"figure": "ROC and PRO curves"},
        ),
        vector=multiext(
            f"{RESULTS}/figures/detection_curves_{{target}}", ".pdf", ".svg"
        ),
    log:
        f"{RESULTS}/logs/detection_curves/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/detection_curves/{{target}}.tsv"
    conda:
        "../../environment.yml"
    params:
        curves=lambda wildcards: of_jobs(
            f"{{row}}={CURVES}", compared(wildcards.target)
        ),
    message:
        "Drawing ROC and PRO curves on {wildcards.target}"
    shell:
        "python -m kanoclip detection-curves {params.curves:q} --out {output.png} > {log} 2>&1"


rule bars:
    input:
        metrics=f"{RESULTS}/tables/metrics.csv",
        code=code("report/figures/bars", "report/figures/summary", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/bars.png",
            caption="../report/bars.rst",
            category="Results",
            labels={"figure": "AUROC by dataset"},
        ),
        vector=multiext(f"{RESULTS}/figures/bars", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/bars.log",
    benchmark:
        f"{RESULTS}/benchmarks/bars.tsv"
    conda:
        "../../environment.yml"
    params:
        options=COMPARED,
    message:
        "Drawing the AUROC of every method on every dataset"
    shell:
        "python -m kanoclip bars --metrics {input.metrics} {params.options} --out {output.png} > {log} 2>&1"


rule ranks:
    input:
        metrics=f"{RESULTS}/tables/metrics.csv",
        code=code(
            "report/figures/ranks",
            "report/figures/summary",
            "report/style",
            "metrics/ranks",
        ),
    output:
        png=report(
            f"{RESULTS}/figures/ranks.png",
            caption="../report/ranks.rst",
            category="Results",
            labels={"figure": "average ranks"},
        ),
        vector=multiext(f"{RESULTS}/figures/ranks", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/ranks.log",
    benchmark:
        f"{RESULTS}/benchmarks/ranks.tsv"
    conda:
        "../../environment.yml"
    params:
        options=COMPARED,
    message:
        "Drawing average ranks"
    shell:
        "python -m kanoclip ranks --metrics {input.metrics} {params.options} --out {output.png} > {log} 2>&1"


rule steps:
    input:
        metrics=f"{RESULTS}/ablations/{{ablation}}/metrics.csv",
        code=code("report/figures/ablation", "report/figures/summary", "report/style"),
    output:
        png=report(
            f"{RESULTS}/ablations/{{ablation}}/steps_{{ablation}}.png",
            caption="../report/steps.rst",
            category="Results",
            labels={"figure": "ablation {ablation}"},
        ),
        vector=multiext(
            f"{RESULTS}/ablations/{{ablation}}/steps_{{ablation}}", ".pdf", ".svg"
        ),
    log:
        f"{RESULTS}/logs/steps/{{ablation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/steps/{{ablation}}.tsv"
    wildcard_constraints:
        ablation=any_of(CONFIG.ablations) or "none",
    conda:
        "../../environment.yml"
    params:
        variants=lambda wildcards: shlex.join(
            f"--method={name}" for name in CONFIG.ablations[wildcards.ablation]
        ),
        targets=shlex.join(f"--dataset={name}" for name in CONFIG.targets),
    message:
        "Drawing the steps of the ablation {wildcards.ablation}"
    shell:
        "python -m kanoclip steps --metrics {input.metrics} {params.variants} {params.targets}"
        " --out {output.png} > {log} 2>&1"


rule curves:
    input:
        logs=[
            f"{RESULTS}/models/{TRAINED}/train.csv".format(
                row=job.row.name,
                backbone=job.row.backbone,
                auxiliary=job.auxiliary,
                seed=job.seed,
            )
            for job in TRAININGS
        ],
        code=code("report/figures/training", "report/style"),
    output:
        png=report(
            f"{RESULTS}/figures/training_curves.png",
            caption="../report/training_curves.rst",
            category="Diagnostics",
            labels={"figure": "training curves"},
        ),
        vector=multiext(f"{RESULTS}/figures/training_curves", ".pdf", ".svg"),
    log:
        f"{RESULTS}/logs/curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/curves.tsv"
    conda:
        "../../environment.yml"
    params:
        logs=lambda wildcards, input: [
            f"{job.row.name} on {job.auxiliary}={path}"
            for job, path in zip(TRAININGS, input.logs)
        ],
    message:
        "Drawing the training curves"
    shell:
        "python -m kanoclip curves {params.logs:q} --out {output.png} > {log} 2>&1"
