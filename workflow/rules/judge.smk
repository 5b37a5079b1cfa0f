# Compares arms and gives verdicts. Reads results only.

for name in PLAN.replications:

    rule:
        name:
            f"judge_{name}"
        input:
            results=PLAN.results(name),
        output:
            verdicts=PLAN.layout.verdicts(PLAN.scale, name),
        log:
            f"logs/judge/{PLAN.scale}/{name}.log",
        priority: 1000000  # short, and a verdict is what everybody waits for
        conda:
            "../envs/decaylab.yaml"
        params:
            claims=PLAN.claims(name),
            code=fingerprint.package_digest("analysis"),
            options=PLAN.options(),
            name=name,
        message:
            f"Judging {name}"
        shell:
            "decaylab judge {params.name} {params.options} > {log} 2>&1"
