# Everything a clone needs. `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
WORKERS ?= 2

# of the configuration; what is empty keeps the value of config/config.yaml
SCALE ?=
REPLICATIONS ?=
IMAGES ?=
TEXT ?=

# checkouts to be compared with, as NAME=PATH: nanogpt, epfl, airbench
PEERS ?=

VENV := .venv
BIN := $(VENV)/bin
# a copy of the lock that was installed
INSTALLED := $(VENV)/installed.lock

config = $(strip $(if $(SCALE),scale='$(SCALE)') $(if $(REPLICATIONS),replications='$(REPLICATIONS)') \
	$(if $(IMAGES),images='$(IMAGES)') $(if $(TEXT),text='$(TEXT)'))
scale = $(or $(SCALE),$(shell sed -n 's/^scale: *//p' config/config.yaml))
reports = $(shell sed -n 's/^reports: *//p' config/config.yaml)

.DEFAULT_GOAL := help
.PHONY: help env install report test benchmark lint format lock readme clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

report: env ## run and judge the replications, print the path of the index [SCALE= REPLICATIONS= IMAGES= TEXT= CORES=]
	@$(BIN)/snakemake --cores $(CORES) all $(if $(config),--config $(config))
	@echo "$(reports)/$(scale)/index.html"

env: ## make .venv from requirements.lock, unless it is there
	@cmp -s requirements.lock $(INSTALLED) || $(MAKE) --no-print-directory install
	@$(BIN)/python -m compileall -q src

# uv takes a fraction of pip's time for the same files and hashes; it is itself installed by its hash in the lock, and
# reads pip's index and certificate, since it does not know pip's configuration. Everything is compiled now, and our
# code whenever it has changed: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile
# all that it imports, for seconds.
install:
	@rm -f $(INSTALLED)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^[^ #]/ { on = /^uv==/ } on' requirements.lock > $(VENV)/uv.txt
	@setting() { $(BIN)/python -m pip config get "$$1" 2> /dev/null || true; }; \
	index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$(setting global.index-url)}}"; \
	certificate="$${SSL_CERT_FILE:-$${PIP_CERT:-$$(setting global.cert)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	if [ -n "$$certificate" ]; then export SSL_CERT_FILE="$$certificate"; fi; \
	export UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-180}"; \
	if $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt \
		&& $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
			requirements.lock; then :; else \
		echo "uv could not install the packages; pip does it, in a few minutes"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@cp requirements.lock $(INSTALLED)

test: lint ## all checks and tests [WORKERS=]
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS)

benchmark: env ## time training, start-up and workflow, beside other people's code [PEERS="nanogpt=PATH epfl=PATH"]
	@$(BIN)/python -m benchmarks $(foreach peer,$(PEERS),--peer $(peer)) --out benchmarks/results

lint: env ## style of code, rules and notebooks
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

format: env ## put code, rules and notebooks into that style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile workflow
	@$(BIN)/nbstripout notebooks/*.ipynb

lock: env ## write requirements.lock after a change of pyproject.toml [UPGRADE=1 takes the newest versions]
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url $(if $(UPGRADE),--upgrade) --extra report --extra images --extra text \
		--extra workflow --extra dev pyproject.toml --output-file requirements.lock

readme: env ## write the table and the figure of README.md from the evidence
	@$(BIN)/python -m decaylab.report.readme

clean: ## remove reports, logs and caches; results stay
	@rm -rf "$(reports)" logs benchmarks/out .pytest_cache .ruff_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the results of trainings and .venv as well
	@rm -rf results .snakemake $(VENV)
