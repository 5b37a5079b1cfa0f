# Thin entry, so that `snakemake --cores all` works from a clone; the workflow is in workflow/.
include: "workflow/Snakefile"


# an included file cannot set the default target of the file that includes it
rule default:
    default_target: True
    input:
        rules.all.input,
    localrule: True
    message:
        "Done"
