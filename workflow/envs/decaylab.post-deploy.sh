#!/usr/bin/env bash
# Called by Snakemake in the clone, inside the new conda environment.
set -euo pipefail
python -m pip install --require-hashes --requirement requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
