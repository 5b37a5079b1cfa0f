# One rule for each batch of runs that share a process; see decaylab.workflow.partition.

for batch in PLAN.batches:

    rule:
        name:
            batch.name
        input:
            data=[PLAN.meta(key) for key in batch.data],
            snapshots=[PLAN.layout.snapshot(*parent) for parent in batch.parents],
        output:
            summaries=[PLAN.layout.summary(run_id) for run_id in batch.run_ids],
            metrics=[PLAN.layout.metrics(run_id) for run_id in batch.run_ids],
            snapshots=[
                PLAN.layout.snapshot(run.run_id, step)
                for run in batch.runs
                for step in run.spec.snapshots
            ],
        log:
            f"logs/train/{batch.name}.log",
        benchmark:
            f"benchmarks/out/{batch.name}.tsv"
        priority: PLAN.priorities[batch.name]
        conda:
            "../envs/decaylab.yaml"
        threads: config["threads"]
        resources:
            gpu=PLAN.gpu,
        params:
            # what decides the numbers; everything else may change without training again
            code=batch.code,
            runs=Untracked(*batch.run_ids),
            options=PLAN.options("device", "together"),
        message:
            f"Training {len(batch.runs)} x {batch.runs[0].spec.model.kind}"
        shell:
            "decaylab train {params.runs} {params.options} --threads {threads} > {log} 2>&1"
