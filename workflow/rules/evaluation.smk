# One score and one evaluate job per (backbone, target). The files of a pass have no wildcards in common, so every pass
# has its own rule.
for one in RUN.passes:

    rule:
        name:
            f"score_{pass_name(one)}"
        input:
            index=LAYOUT.index(one.target),
            features=(
                LAYOUT.features(one.backbone, one.target) if RUN.cached_targets else []
            ),
            checkpoints=checkpoints_of(one),
            weights=fetched(one.backbone),
        output:
            of_jobs(one.jobs, "scores.h5", "cost.json"),
        log:
            f"{RESULTS}/logs/score/{pass_path(one)}.log",
        benchmark:
            f"{RESULTS}/benchmarks/score/{pass_path(one)}.tsv"
        conda:
            "../../environment.yml"
        threads: LOADING_THREADS
        resources:
            gpu=1,
            mem_mb=with_attempts(16000),
            runtime=with_attempts(480),
        params:
            results=lambda wildcards: RESULTS,
            backbone=one.backbone,
            target=one.target,
            settings=set_options("--backbone-set", backbone_values(one.backbone)),
            rows=pass_rows(one),
            cached=["--cached"] * RUN.cached_targets,
            weights=weights_digest(one.backbone),
            given=given_checkpoints(one),
            code=methods_code("score-pass", [job.row for job in one.jobs]),
        message:
            f"Scoring {one.target} with {len(one.jobs)} rows and seeds on {one.backbone}"
        shell:
            "printf '%s\\n' {params.rows:q} | python -m kanoclip --log {log:q} score-pass --results {params.results:q} --backbone {params.backbone:q}"
            " {params.settings:q} --target {params.target:q} @- {params.cached:q}"
            " --threads {threads} --workers {threads}"

    rule:
        name:
            f"evaluate_{pass_name(one)}"
        input:
            scores=of_jobs(one.jobs, "scores.h5"),
            index=LAYOUT.index(one.target),
        output:
            of_jobs(one.jobs, "metrics.csv", "curves.csv"),
        log:
            f"{RESULTS}/logs/evaluate/{pass_path(one)}.log",
        benchmark:
            f"{RESULTS}/benchmarks/evaluate/{pass_path(one)}.tsv"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            gpu=1,
            mem_mb=with_attempts(8000),
            runtime=with_attempts(120),
        params:
            folders=lambda wildcards, input: [
                str(Path(path).parent) for path in input.scores
            ],
            store=lambda wildcards: LAYOUT.store,
            resolution=(
                [f"--resolution={CONFIG.evaluation.resolution}"]
                if CONFIG.evaluation.resolution is not None
                else []
            ),
            bootstrap=CONFIG.evaluation.bootstrap,
            code=command_digest("evaluate"),
        message:
            f"Evaluating {len(one.jobs)} rows and seeds on {one.target}"
        shell:
            "printf '%s\\n' {params.folders:q} | python -m kanoclip --log {log:q} evaluate @- --index {input.index:q} --store {params.store:q}"
            " {params.resolution:q} --bootstrap {params.bootstrap:q} --threads {threads}"
