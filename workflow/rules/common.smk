# Checks the configuration and computes the plan that all rules read. No rules here.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from decaylab import fingerprint
from decaylab.errors import InputError
from decaylab.workspace import find_root
from decaylab.workflow.lock import clear_stale_lock
from decaylab.workflow.machine import find_programs
from decaylab.workflow.messages import explain_config, stop
from decaylab.workflow.plan import Plan, Untracked

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
