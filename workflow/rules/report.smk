# Executes the notebooks and builds the site.

for name in PLAN.replications:

    rule:
        name:
            f"render_{name}"
        input:
            notebook=f"notebooks/{name}.ipynb",
            results=PLAN.results(name),
            verdicts=PLAN.layout.verdicts(PLAN.scale, name),
        output:
            html=report(
                PLAN.layout.report(PLAN.scale, name),
                caption="../report/replication.rst",
                category="Replications",
                labels={"replication": name, "scale": PLAN.scale},
            ),
        log:
            f"logs/render/{PLAN.scale}/{name}.log",
        priority: 1000000
        retries: 1  # kernels that start at the same moment may pick the same port
        conda:
            "../envs/decaylab.yaml"
        params:
            code=fingerprint.package_digest("analysis", "report"),
            texts=PLAN.texts(name),
            options=PLAN.options("reports"),
            name=name,
        message:
            f"Rendering {name}"
        shell:
            "decaylab render {params.name} {params.options} > {log} 2>&1"

    rule:
        name:
            f"show_{name}"
        input:
            html=PLAN.layout.report(PLAN.scale, name),
            verdicts=PLAN.layout.verdicts(PLAN.scale, name),
        output:
            # one replication may be run without the others, so the index is no output of this rule
            done=touch(PLAN.layout.reports / PLAN.scale / ".shown" / name),
        log:
            f"logs/show/{PLAN.scale}/{name}.log",
        localrule: True
        conda:
            "../envs/decaylab.yaml"
        params:
            options=PLAN.options("reports"),
        message:
            f"Putting {name} into the index"
        shell:
            "decaylab site {params.options} > {log} 2>&1"

    rule:
        name:
            name
        input:
            html=PLAN.layout.report(PLAN.scale, name),
            shown=PLAN.layout.reports / PLAN.scale / ".shown" / name,
        localrule: True
        message:
            "Ready: {input.html}"


rule index:
    """All replications: those run here with their verdicts, the others with their evidence."""
    input:
        html=[PLAN.layout.report(PLAN.scale, name) for name in PLAN.chosen],
        verdicts=[PLAN.layout.verdicts(PLAN.scale, name) for name in PLAN.chosen],
    output:
        html=report(
            PLAN.layout.index(PLAN.scale),
            caption="../report/index.rst",
            category="Index",
            labels={"replication": "all", "scale": PLAN.scale},
        ),
    log:
        f"logs/index/{PLAN.scale}.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest("analysis", "report"),
        texts=PLAN.texts(),
        options=PLAN.options("reports"),
    message:
        "Building the index"
    shell:
        "decaylab site {params.options} > {log} 2>&1"
