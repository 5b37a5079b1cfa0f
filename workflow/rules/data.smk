# Downloads, checks, unpacks and tokenises. One rule for all data sets that the same replications need.


rule data:
    """All data sets of the chosen replications. Run it before going offline."""
    input:
        PLAN.metas(PLAN.chosen),
    localrule: True
    message:
        "Ready: all data sets"


for name, keys in PLAN.data.items():

    rule:
        name:
            name
        output:
            meta=[PLAN.meta(key) for key in keys],
        log:
            f"logs/data/{name}.log",
        retries: 1  # downloads
        localrule: True
        conda:
            "../envs/decaylab.yaml"
        params:
            code=PLAN.data_code(keys),
            only=data_words(keys),
            options=PLAN.options(),
        message:
            "Preparing {output.meta}"
        shell:
            "decaylab data {params.only} {params.options} > {log} 2>&1"
