# Entry point, so that `snakemake --cores all` works in a clone. The workflow is in workflow/.
include: "workflow/Snakefile"


# an included file cannot set the default target of the including file
rule default:
    default_target: True
    input:
        rules.all.input,
    localrule: True
    message:
        "Done"
