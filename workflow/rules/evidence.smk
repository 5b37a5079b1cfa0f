# Shows filed evidence as if it had run here: restores its runs, then judges and renders. Nothing is trained.

for filed, names in PLAN.evidence.items():

    rule:
        name:
            f"restore_{filed}".replace("-", "_")
        input:
            [
                f"replications/{name}/evidence/{filed}.{kind}"
                for name in names
                for kind in ("json", "parquet")
            ],
        output:
            origin=PLAN.layout.filed(filed).origin,
        log:
            f"logs/evidence/{filed}/restore.log",
        conda:
            "../envs/decaylab.yaml"
        params:
            code=fingerprint.package_digest("analysis"),
            options=PLAN.options_of("results"),
            filed=filed,
        message:
            f"Restoring {filed}"
        shell:
            "decaylab evidence restore {params.filed} {params.options} > {log} 2>&1"

    for name in names:

        rule:
            name:
                f"show_{filed}_{name}".replace("-", "_")
            input:
                origin=PLAN.layout.filed(filed).origin,
                notebook=f"notebooks/{name}.ipynb",
                replication=f"replications/{name}/replication.yaml",
            output:
                html=report(
                    PLAN.filed_report(filed, name),
                    caption="../report/evidence.rst",
                    category="Evidence",
                    labels={"replication": name, "evidence": filed},
                ),
            log:
                f"logs/evidence/{filed}/{name}.log",
            retries: 1  # kernels that start at the same moment may pick the same port
            conda:
                "../envs/decaylab.yaml"
            params:
                code=fingerprint.package_digest("analysis", "report"),
                options=PLAN.options_of("results", "reports"),
                filed=filed,
                name=name,
            message:
                f"Rendering {name} from {filed}"
            shell:
                "decaylab evidence render {params.filed} {params.name} {params.options} > {log} 2>&1"


rule evidence:
    """Every report that filed evidence gives, without training, and an index of them."""
    input:
        [
            PLAN.filed_report(filed, name)
            for filed, names in PLAN.evidence.items()
            for name in names
        ],
    output:
        index=PLAN.layout.reports / "evidence" / "index.html",
    log:
        "logs/evidence/index.log",
    localrule: True
    conda:
        "../envs/decaylab.yaml"
    params:
        code=fingerprint.package_digest("analysis", "report"),
        texts=PLAN.texts(),
        options=PLAN.options_of("results", "reports"),
    message:
        "Ready: {output.index}"
    shell:
        "decaylab evidence site {params.options} > {log} 2>&1"
