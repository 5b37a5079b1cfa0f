# One rule for each job: runs that share a process. See decaylab.workflow.jobs.partition.

for job in PLAN.jobs:

    rule:
        name:
            job.name
        input:
            data=[PLAN.meta(key) for key in job.data],
            snapshots=[PLAN.layout.snapshot(*start) for start in job.starts],
            followed=[PLAN.layout.metrics(run_id) for run_id in job.followed],
        output:
            summaries=[PLAN.layout.summary(run_id) for run_id in job.run_ids],
            metrics=[PLAN.layout.metrics(run_id) for run_id in job.run_ids],
            snapshots=[PLAN.layout.snapshot(*kept) for kept in job.snapshots],
        log:
            f"logs/train/{job.name}.log",
        benchmark:
            f"benchmarks/out/{job.name}.tsv"
        priority: PLAN.priorities[job.name]
        conda:
            "../envs/decaylab.yaml"
        threads: config["threads"]
        resources:
            gpu=PLAN.gpus(job),
            # for clusters; on one machine they limit nothing
            runtime=requests.minutes(job, PLAN.gpus(job), config["threads"]),
            mem_mb=requests.megabytes(job, PLAN.gpus(job)),
            # or Slurm would show each task one GPU, and the one task must see all of them
            tasks_per_gpu=0,
        params:
            # only a change of the code trains again
            code=job.code,
            runs=Untracked(*job.run_ids),
            options=PLAN.options("device", "together"),
            gpus=gpus_of,
        message:
            f"Training {len(job.runs)} x {job.kind}"
        shell:
            "decaylab train {params.runs} {params.options} {params.gpus} --threads {threads} > {log} 2>&1"
