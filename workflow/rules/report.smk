# Executes the notebooks and builds the site.


rule render:
    """The report of one replication."""
    input:
        notebook=PLAN.source("notebooks/{name}.ipynb"),
        results=results_of,
        verdicts=PLAN.layout.verdicts(PLAN.scale, "{name}"),
    output:
        html=report(
            PLAN.layout.report(PLAN.scale, "{name}"),
            caption="../report/replication.rst",
            category="Replications",
            labels={"replication": "{name}", "scale": PLAN.scale},
        ),
    log:
        f"logs/render/{PLAN.scale}/{{name}}.log",
    priority: 1000000
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest(*fingerprint.SHOWING),
        texts=texts_of,
        options=PLAN.options("reports"),
    message:
        "Rendering {wildcards.name}"
    shell:
        "decaylab render {wildcards.name} {params.options} > {log} 2>&1"


rule show:
    """The index, after one replication ran without the others."""
    input:
        html=PLAN.layout.report(PLAN.scale, "{name}"),
        verdicts=PLAN.layout.verdicts(PLAN.scale, "{name}"),
    output:
        # the index itself is the output of rule `index`
        done=touch(PLAN.layout.shown(PLAN.scale, "{name}")),
    log:
        f"logs/show/{PLAN.scale}/{{name}}.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        options=PLAN.options("reports"),
    message:
        "Adding {wildcards.name} to the index"
    shell:
        "decaylab site {params.options} > {log} 2>&1"


# a target on the command line cannot have wildcards
for name in PLAN.replications:

    rule:
        name:
            name
        input:
            html=PLAN.layout.report(PLAN.scale, name),
            shown=PLAN.layout.shown(PLAN.scale, name),
            rounds=rounds_wanted,
            runs=PLAN.first(name),
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
        code=fingerprint.package_digest(*fingerprint.SHOWING),
        texts=PLAN.texts(),
        options=PLAN.options("reports"),
    message:
        "Building the index"
    shell:
        "decaylab site {params.options} > {log} 2>&1"
