# Checks the configuration and computes the plan that all rules read. No rules here.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from decaylab import fingerprint
from decaylab.errors import InputError
from decaylab.workspace import SCALES, find_root
from decaylab.workflow.lock import clear_stale_lock
from decaylab.workflow.machine import find_programs
from decaylab.workflow.messages import explain_config, stop
from decaylab.workflow.plan import Plan, Untracked, any_of

try:
    validate(config, schema="../schemas/config.schema.yaml")
except WorkflowError as error:
    stop(explain_config(error))

try:
    PLAN = Plan(config, find_root())
except InputError as error:
    stop(str(error))

find_programs()
if clear_stale_lock():
    print(
        "decaylab: removed the lock of a snakemake that was killed; finished runs are kept",
        file=sys.stderr,
    )


wildcard_constraints:
    name=any_of(PLAN.replications),
    filed=any_of(PLAN.evidence),
    filed_scale=any_of(SCALES),


def results_of(wildcards):
    """Summaries and metrics of all runs of a replication."""
    return PLAN.results(wildcards.name)


def claims_of(wildcards):
    """Digest of a replication's claims and of the runs that they read."""
    return PLAN.claims(wildcards.name)


def texts_of(wildcards):
    """Digest of all files of a replication."""
    return PLAN.texts(wildcards.name)


def filed_files(wildcards):
    """Both files of one piece of evidence, for every replication that has it."""
    return PLAN.filed_files(wildcards.filed)
