# Shows filed evidence as if its runs had been made here: restores them, judges and renders. Nothing is trained.


rule restore:
    """A results folder from one piece of evidence."""
    input:
        filed_files,
    output:
        origin=PLAN.layout.filed("{filed}").origin,
    log:
        "logs/evidence/{filed}/restore.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest(*fingerprint.JUDGING),
        options=PLAN.options_of("results"),
    message:
        "Restoring {wildcards.filed}"
    shell:
        "decaylab evidence restore {wildcards.filed} {params.options} > {log} 2>&1"


rule render_evidence:
    """The report of one replication from one piece of evidence."""
    input:
        origin=PLAN.layout.filed("{filed}").origin,
        notebook=PLAN.source("notebooks/{name}.ipynb"),
        replication=PLAN.source("replications/{name}/replication.yaml"),
    output:
        html=report(
            PLAN.layout.filed("{filed}").report("{filed_scale}", "{name}"),
            caption="../report/evidence.rst",
            category="Evidence",
            labels={"replication": "{name}", "evidence": "{filed}"},
        ),
    log:
        "logs/evidence/{filed}/{filed_scale}/{name}.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest(*fingerprint.SHOWING),
        options=PLAN.options_of("results", "reports"),
    message:
        "Rendering {wildcards.name} from {wildcards.filed}"
    shell:
        "decaylab evidence render {wildcards.filed} {wildcards.name} {params.options} > {log} 2>&1"


rule evidence:
    """Every report that filed evidence gives, and an index of them. Nothing is trained."""
    input:
        PLAN.filed_reports(),
    output:
        index=PLAN.layout.evidence_index,
    log:
        "logs/evidence/index.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest(*fingerprint.SHOWING),
        texts=PLAN.texts(),
        options=PLAN.options_of("results", "reports"),
    message:
        "Ready: {output.index}"
    shell:
        "decaylab evidence site {params.options} > {log} 2>&1"
