# Checks the configuration and computes the plan that all rules read. No rules here.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from decaylab import fingerprint
from decaylab.errors import InputError
from decaylab.workspace import find_root
from decaylab.workflow import (
    Plan,
    Untracked,
    clear_stale_lock,
    explain_config,
    find_programs,
    stop,
)

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
        "decaylab: the last snakemake was killed; its lock is removed, finished runs are kept",
        file=sys.stderr,
    )
