# Compares arms and gives verdicts. Only reads results.


rule judge:
    """The verdicts of one replication."""
    input:
        results=results_of,
    output:
        verdicts=PLAN.layout.verdicts(PLAN.scale, "{name}"),
    log:
        f"logs/judge/{PLAN.scale}/{{name}}.log",
    priority: 1000000  # quick, and verdicts are what the user waits for
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        claims=claims_of,
        code=fingerprint.package_digest(*fingerprint.JUDGING),
        options=PLAN.options(),
    message:
        "Judging {wildcards.name}"
    shell:
        "decaylab judge {wildcards.name} {params.options} > {log} 2>&1"
