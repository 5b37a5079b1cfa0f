# Checks the configuration and computes the plan that all rules read. No rules here.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from decaylab import fingerprint
from decaylab.errors import InputError
from decaylab.workspace import SCALES
from decaylab.workflow import requests
from decaylab.workflow.lock import clear_stale_lock
from decaylab.workflow.machine import find_programs
from decaylab.workflow.messages import explain_config, stop
from decaylab.workflow.plan import Plan, Untracked, any_of
from decaylab.workflow.settings import find_clone, tidy

try:
    tidy(config)
    validate(config, schema="../schemas/config.schema.yaml")
except WorkflowError as error:
    stop(explain_config(error))
except InputError as error:
    stop(str(error))

try:
    here = workflow.current_basedir.get_path_or_uri(secret_free=True)
    PLAN = Plan(config, find_clone(here))
    PLAN.put_back()
except InputError as error:
    stop(str(error))

total = workflow.global_resources.get("gpu")
total = getattr(total, "value", total)  # a number in older versions of snakemake
if config["gpus"] > 1 and total is not None and total < config["gpus"]:
    stop(
        f"config: gpus: {config['gpus']}, but snakemake may use {total}; "
        f"add --resources gpu={config['gpus']}"
    )

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
    key="[0-9a-f]{12}",
    number=r"\d+",


def decision_for(name):
    """The round of added seeds that a replication's verdicts wait for; None without one."""
    targets = workflow.dag_settings.targets or ()
    return PLAN.rounds.round_of(PLAN.rounds.scope(name, targets, PLAN.chosen))


def results_of(wildcards):
    """Summaries and metrics of all runs of a replication, once seeds were added to its claims."""
    decision = decision_for(wildcards.name)
    if decision is None:
        return PLAN.results(wildcards.name)
    # raises until the round has ended; then snakemake asks again, and the results have the added runs
    done = checkpoints.decide.get(key=decision.key, number=decision.number).output.done
    return [*PLAN.results(wildcards.name), done]


def rounds_wanted(wildcards):
    """Ends of all rounds that the targets wait for.

    They belong to the targets, because snakemake makes no missing file whose products are there.
    """
    targets = workflow.dag_settings.targets or ()
    names = [name for name in PLAN.replications if name in targets] or PLAN.chosen
    found = {decision_for(name) for name in names} - {None}
    return sorted(
        PLAN.layout.decided(PLAN.scale, decision.key, decision.number)
        for decision in found
    )


def first_looks(wildcards):
    """Results that the claims of a round are first judged by."""
    return PLAN.first(*PLAN.rounds.by_key(wildcards.key).names)


def data_words(keys):
    """What `decaylab data` is asked for: some data sets of the replications that run now."""

    def words(wildcards):
        names = PLAN.needing(keys, workflow.dag_settings.targets or ())
        return Untracked(*names, *(word for key in keys for word in ("--key", key)))

    return words


def data_of_round(wildcards):
    """All data sets that runs of a round may need."""
    return PLAN.metas(PLAN.rounds.by_key(wildcards.key).names)


def replications_of(wildcards):
    """Names of the replications of a round, and the time until which it may train."""
    names = PLAN.rounds.by_key(wildcards.key).names
    return Untracked(*names, until=PLAN.rounds.until(names))


def gpus_of(wildcards, resources):
    """The option that lets several GPUs train a run."""
    return Untracked(gpus=resources.gpu if resources.gpu > 1 else None)


def claims_of(wildcards):
    """Digest of a replication's claims and of the runs that they read."""
    return PLAN.claims(wildcards.name)


def texts_of(wildcards):
    """Digest of all files of a replication."""
    return PLAN.texts(wildcards.name)


def filed_files(wildcards):
    """Both files of one piece of evidence, for every replication that has it."""
    return PLAN.filed_files(wildcards.filed)
