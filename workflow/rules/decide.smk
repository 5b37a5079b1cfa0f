# Adds seeds to undecided claims until they are decided or time is up. What it trains is known only afterwards.


checkpoint decide:
    """One round of added seeds for the claims of some replications."""
    input:
        first=first_looks,
        data=data_of_round,
    output:
        done=touch(PLAN.layout.decided(PLAN.scale, "{key}", "{number}")),
    log:
        f"logs/decide/{PLAN.scale}/{{key}}-{{number}}.log",
    conda:
        "../envs/decaylab.yaml"
    threads: 1024  # all cores
    resources:
        gpu=PLAN.gpu,
    params:
        claims=replications_of,
        options=PLAN.options("device"),
        training=config["threads"],
    message:
        "Adding seeds to undecided claims"
    shell:
        "decaylab decide {params.claims} {params.options} --round {wildcards.key} --cores {threads}"
        " --threads {params.training} 2>&1 | tee {log}"
