# Everything that a clone needs. `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
WORKERS ?= 2

# keys of the configuration; an empty one keeps its value in config/config.yaml
SCALE ?=
MINUTES ?=
REPLICATIONS ?=
IMAGES ?=
TEXT ?=

# checkouts to compare with, as NAME=PATH: nanogpt, epfl, airbench
PEERS ?=

VENV := .venv
BIN := $(VENV)/bin
# copy of the lock file that .venv was installed from
INSTALLED := $(VENV)/installed.lock

# one word of a shell command, whatever is in it
quoted = '$(subst ','\'',$(1))'
config = $(strip $(if $(SCALE),scale=$(call quoted,$(SCALE))) \
	$(if $(REPLICATIONS),replications=$(call quoted,$(REPLICATIONS))) $(if $(MINUTES),minutes=$(call quoted,$(MINUTES))) \
	$(if $(IMAGES),images=$(call quoted,$(IMAGES))) $(if $(TEXT),text=$(call quoted,$(TEXT))))
scale = $(or $(SCALE),$(shell sed -n 's/^scale: *//p' config/config.yaml))
reports = $(shell sed -n 's/^reports: *//p' config/config.yaml)

# Snakemake needs a place for its cache; a container's home may be read-only
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif

.DEFAULT_GOAL := help
.PHONY: help env install lab report test benchmark lint format lock audit readme clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

report: env ## train, judge and report; prints the path of the index [MINUTES= SCALE= REPLICATIONS= IMAGES= TEXT= CORES=]
	@$(BIN)/snakemake --cores $(CORES) all $(if $(config),--config $(config))
	@echo "$(reports)/$(scale)/index.html"

lab: env ## open the notebooks in JupyterLab
	@$(BIN)/jupyter-lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

env: ## make .venv from requirements.lock, if it is not up to date
	@cmp -s requirements.lock $(INSTALLED) || $(MAKE) --no-print-directory install
	@$(BIN)/python -m compileall -q src

# uv installs the same files with the same hashes in a fraction of pip's time. pip installs uv by its hash in the lock
# file. uv does not read pip's configuration, so index and certificate are passed on. Packages are compiled to bytecode
# here, and our code whenever it has changed: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process
# would otherwise spend seconds on compiling its imports.
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
		echo "uv could not install the packages; pip will, in a few minutes"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@cp requirements.lock $(INSTALLED)

test: lint ## run all checks and tests [WORKERS=]
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS)

benchmark: env ## time training, start-up and the workflow, beside other people's code [PEERS="nanogpt=PATH epfl=PATH"]
	@$(BIN)/python -m benchmarks $(foreach peer,$(PEERS),--peer $(peer)) --out benchmarks/results

lint: env ## check the style of code, rules and notebooks
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

format: env ## format code, rules and notebooks
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile workflow
	@$(BIN)/nbstripout notebooks/*.ipynb

lock: env ## update requirements.lock after a change of pyproject.toml [UPGRADE=1: newest versions]
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url $(if $(UPGRADE),--upgrade) --extra report --extra images --extra text \
		--extra workflow --extra curvature --extra quantisation --extra dev pyproject.toml --output-file requirements.lock

# --strict: a package of which nothing is known is an error, not a pass
audit: env ## look up known vulnerabilities of all locked packages; needs pypi.org
	@$(BIN)/uv tool run pip-audit --strict --disable-pip --no-deps --requirement requirements.lock

readme: env ## update the generated parts of README.md from the filed evidence
	@$(BIN)/python -m decaylab.report.readme

clean: ## remove reports, logs and caches; keep results
	@rm -rf "$(reports)" logs benchmarks/out .pytest_cache .ruff_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove results and .venv
	@rm -rf results .snakemake $(VENV)
